"""From rollouts to sequences to train on."""

from __future__ import annotations

import numpy as np

from rlstep.types import Floats, Ints, Rollout, Sequence, TokenIds, Verdict


def sequence(
    rollout: Rollout, *, start: int = 0, end: int | None = None, step_scores: Floats | None = None
) -> Sequence:
    """Prompt and completion up to `end`, of which the completion tokens `[start, end)` are trained.

    Only tokens that were sampled are trained, and no end-of-sequence token is appended after a cut.

    Args:
        start: first trained completion token.
        end: where the completion is cut, a step's end; None keeps all of it.
        step_scores: float32 [K] of the whole rollout; zeros if none are given.
    """
    completion, prompt = rollout.completion, rollout.prompt.token_ids
    total = len(completion.token_ids)
    stop = total if end is None else end
    steps = [step for step in rollout.steps if step.end <= stop]
    length = len(prompt) + stop
    mask = np.zeros(length, dtype=bool)
    mask[len(prompt) + start :] = completion.sampled[start:stop]
    index = np.full(length, -1, dtype=np.int32)
    for k, step in enumerate(steps):
        index[len(prompt) + step.start : len(prompt) + step.end] = k
    logprobs = np.zeros(length, dtype=np.float32)
    logprobs[len(prompt) :] = completion.logprobs[:stop]
    scores = np.zeros(len(steps)) if step_scores is None else step_scores[: len(steps)]
    whole = start == 0 and stop == total
    return Sequence(
        sequence_id=rollout.rollout_id if whole else f"{rollout.rollout_id}[{start}:{stop}]",
        prompt_id=rollout.prompt.prompt_id,
        token_ids=np.concatenate([prompt, completion.token_ids[:stop]]).astype(np.int32),
        loss_mask=mask,
        step_index=index,
        rollout_logprobs=logprobs,
        step_scores=np.asarray(scores, dtype=np.float32),
        oldest_version=min(
            (v.version for v in completion.versions if v.start < stop and v.end > start),
            default=rollout.oldest_version,
        ),
    )


def last_tokens(rollout: Rollout) -> Ints:
    """int32 [K]: where the last token of every step stands in prompt and completion together."""
    ends = np.array([step.end for step in rollout.steps], dtype=np.int32)
    return ends + np.int32(len(rollout.prompt.token_ids) - 1)


def labelled_scores(rollout: Rollout, source: str) -> Floats | None:
    """float32 [K], or None where the source failed, has not run, or left a step without a label."""
    scores = rollout.step_scores(source)
    if scores is None or (scores.n is not None and not np.all(scores.n > 0)):
        return None
    return scores.values


def shared_prefix(a: TokenIds, b: TokenIds) -> int:
    """Number of leading tokens that both have in common."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


def is_correct(rollout: Rollout) -> bool:
    """Whether the verifier found the answer correct; False where it failed or has not run."""
    return rollout.outcome is not None and rollout.outcome.verdict is Verdict.CORRECT
