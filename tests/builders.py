"""Small records for tests."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstep.interfaces import BatchT
from rlstep.tensors.batching import collate
from rlstep.testing.roles import fake_completion
from rlstep.types import (
    Completion,
    Failure,
    Group,
    Observed,
    OutcomeScore,
    Prompt,
    Rollout,
    RolloutScore,
    Samples,
    Sampling,
    Score,
    Sequence,
    Step,
    StepScores,
    TokenScores,
    Verdict,
)
from tests.completions import make_completion


def make_prompt(prompt_id: str = "p", tokens: Seq[int] = (1, 2)) -> Prompt:
    ids = np.array(tokens, dtype=np.int32)
    return Prompt(prompt_id=prompt_id, token_ids=ids, text="question", answer="42")


def make_steps(lengths: Seq[int]) -> tuple[Step, ...]:
    ends = np.cumsum(lengths)
    return tuple(
        Step(start=int(end - length), end=int(end))
        for end, length in zip(ends, lengths, strict=True)
    )


def make_outcome(value: float) -> OutcomeScore:
    verdict = Verdict.CORRECT if value == 1.0 else Verdict.WRONG
    return OutcomeScore(value=value, verdict=verdict, extracted="")


def make_step_scores(values: Seq[float], sigma: Seq[float] | float | None = None) -> StepScores:
    """With the log of these standard deviations, or of one for all steps."""
    column = np.array(values, dtype=np.float32)
    if sigma is None:
        return StepScores(values=column, version=0)
    sigmas = np.broadcast_to(np.asarray(sigma, dtype=np.float64), column.shape)
    return StepScores(values=column, version=0, log_sigma=np.log(sigmas).astype(np.float32))


def make_token_scores(values: Seq[float]) -> TokenScores:
    return TokenScores(values=np.array(values, dtype=np.float32), version=0)


def make_counts(n: Seq[int], k: Seq[int]) -> StepScores:
    """Monte-Carlo scores: k of n continuations correct; the value of an unlabelled step is 0."""
    draws, correct = np.array(n, dtype=np.int32), np.array(k, dtype=np.int32)
    values = (correct / np.maximum(draws, 1)).astype(np.float32)
    return StepScores(values=values, version=0, n=draws, k=correct)


def make_rollout(
    rollout_id: str,
    steps: Seq[Seq[int]],
    *,
    outcome: float | None = None,
    scores: Mapping[str, Seq[float] | Score] | None = None,
    prompt: Prompt | None = None,
    parent: str | None = None,
    inherited: int = 0,
    versions: Seq[tuple[int, int, int]] = (),
    observed: Mapping[int, Seq[int]] | None = None,
) -> Rollout:
    """A rollout from the token ids of its steps; an outcome of None is a verifier's timeout.

    Args:
        observed: token ids by the step that they were observed after, -1 before the first.
    """
    every: dict[str, Score] = {
        source: score
        if isinstance(score, StepScores | TokenScores | RolloutScore | OutcomeScore | Failure)
        else make_step_scores(score)
        for source, score in (scores or {}).items()
    }
    every["outcome"] = Failure(reason="timeout") if outcome is None else make_outcome(outcome)
    completion, spans = make_completion([token for step in steps for token in step], versions), ()
    if observed:
        completion, spans = _with_observed(steps, observed)
    return Rollout(
        rollout_id=rollout_id,
        prompt=prompt or make_prompt(),
        completion=completion,
        steps=spans or make_steps([len(step) for step in steps]),
        sample_index=0,
        iteration=0,
        seed=0,
        sampling=Sampling(),
        parent=parent,
        inherited=inherited,
        scores=every,
    )


def _with_observed(
    steps: Seq[Seq[int]], observed: Mapping[int, Seq[int]]
) -> tuple[Completion, tuple[Step, ...]]:
    """All under version 0."""
    tokens: list[int] = []
    sampled: list[Step] = []
    seen: list[Observed] = []
    for k in range(-1, len(steps)):
        start = len(tokens)
        if k >= 0:
            tokens += steps[k]
            sampled.append(Step(start=start, end=len(tokens)))
        start = len(tokens)
        if observed.get(k):
            tokens += observed[k]
            seen.append(Observed(start=start, end=len(tokens)))
    completion = make_completion(tokens, [(0, step.start, step.end) for step in sampled])
    whole = replace(completion, observed=tuple(seen))
    return replace(whole, logprobs=whole.logprobs * whole.sampled), tuple(sampled)


def make_text_rollout(prompt: Prompt, lines: Seq[str]) -> Rollout:
    """A rollout whose steps are these lines, of one token a byte; the last ends the sequence."""
    completion = fake_completion("".join(lines), max_tokens=4096)
    lengths = [len(line.encode()) for line in lines]
    lengths[-1] += 1
    rollout = make_rollout("r", [[1]], prompt=prompt)
    return replace(rollout, completion=completion, steps=make_steps(lengths))


def make_group(*rollouts: Rollout) -> Group:
    return Group(prompt=rollouts[0].prompt, rollouts=rollouts)


def make_sequence(
    sequence_id: str,
    step_lengths: Seq[int],
    *,
    scores: Seq[float] | None = None,
    masked_steps: Seq[int] = (),
    prompt_length: int = 1,
    prompt_id: str = "p",
) -> Sequence:
    """A sequence of which every completion token is trained, except in `masked_steps`."""
    index = np.repeat(np.arange(len(step_lengths)), step_lengths)
    index = np.concatenate([np.full(prompt_length, -1), index]).astype(np.int32)
    mask = (index >= 0) & ~np.isin(index, masked_steps)
    return Sequence(
        sequence_id=sequence_id,
        prompt_id=prompt_id,
        token_ids=np.arange(1, len(index) + 1, dtype=np.int32),
        loss_mask=mask,
        step_index=index,
        rollout_logprobs=np.zeros(len(index), dtype=np.float32),
        step_scores=np.array(
            np.zeros(len(step_lengths)) if scores is None else scores, dtype=np.float32
        ),
        oldest_version=0,
    )


def zero_logprobs(samples: Samples) -> list[np.ndarray]:
    return [np.zeros(len(s.token_ids), dtype=np.float32) for s in samples.sequences]


def double(batch: BatchT) -> BatchT:
    """The batch in float64, for gradients by finite differences."""
    columns = {f.name: getattr(batch, f.name) for f in fields(batch)}
    wide = {name: c.double() for name, c in columns.items() if c.is_floating_point()}
    return replace(batch, **wide)


def make_batch(samples: Samples) -> Any:
    """The samples' kind of batch, in float64 with all logprobs 0: predictions are log-ratios."""
    return double(collate(samples, zero_logprobs(samples), zero_logprobs(samples)))


def pad_rows(rows: Seq[Seq[float]]) -> Tensor:
    """float64 [N, L] that takes a gradient."""
    width = max(len(row) for row in rows)
    padded = [list(row) + [0.0] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.float64, requires_grad=True)
