"""Completions that are written piece by piece, where scores decide between two pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlstep.interfaces import RolloutContext
from rlstep.rollouts.requests import joined, request_seed
from rlstep.types import (
    Completion,
    Failure,
    Likeliest,
    Prompt,
    Request,
    Rollout,
    RolloutScore,
    Sampling,
    VersionSpan,
)

SPENT = "sampled_tokens"
"""Source of what a rollout cost: the tokens that were sampled for it, thrown-away ones included."""

NOTHING = Completion(
    token_ids=np.zeros(0, np.int32),
    logprobs=np.zeros(0, np.float32),
    text="",
    ends=np.zeros(0, np.int32),
    finish_reason="length",
    stop_reason=None,
    versions=(),
)
"""What a draft begins with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """What is written of a completion."""

    completion: Completion = NOTHING
    """Of one that is not finished, the finish_reason is 'length'."""
    finished: bool = False

    @property
    def length(self) -> int:
        """In tokens."""
        return len(self.completion.token_ids)


def extended(
    draft: Draft,
    piece: Completion,
    sampling: Sampling,
    context: RolloutContext,
    pauses: Sequence[str] = (),
) -> Draft:
    """The draft with a piece behind it.

    A stop string is looked for in the whole: the engine sees a piece alone, and one that lies
    across two of them is the whole's as well. What was sampled behind it is left out. A finished
    draft stays as it is.

    Args:
        sampling: of the whole completion.
        pauses: strings that ended the piece, and do not end the completion.
    """
    if draft.finished:
        return draft
    whole = joined(draft.completion, draft.length, piece, context)
    if (found := _first_stop(whole.text, sampling.stop)) is not None:
        end, stop = found
        whole = first_tokens(whole, int(np.searchsorted(whole.ends, end)) + 1)
        return Draft(
            completion=replace(whole, finish_reason="stop", stop_reason=stop), finished=True
        )
    if piece.finish_reason == "stop" and piece.stop_reason not in pauses:
        return Draft(completion=whole, finished=True)
    whole = replace(whole, finish_reason="length", stop_reason=None)
    return Draft(completion=whole, finished=len(whole.token_ids) >= sampling.max_tokens)


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Where in the text the first stop string ends; an unfinished draft has none."""
    found = ((text.find(stop), stop) for stop in stops)
    return min(((start + len(stop), stop) for start, stop in found if start >= 0), default=None)


def first_tokens(completion: Completion, tokens: int) -> Completion:
    """The first so many of a completion's tokens; cut off, where these are not all."""
    if tokens >= len(completion.token_ids):
        return completion
    told = completion.likeliest
    return replace(
        completion,
        token_ids=completion.token_ids[:tokens],
        logprobs=completion.logprobs[:tokens],
        text=completion.text[: completion.ends[tokens - 1] if tokens else 0],
        ends=completion.ends[:tokens],
        finish_reason="length",
        stop_reason=None,
        versions=tuple(
            replace(span, end=min(span.end, tokens))
            for span in completion.versions
            if span.start < tokens
        ),
        likeliest=told
        and Likeliest(token_ids=told.token_ids[:tokens], logprobs=told.logprobs[:tokens]),
    )


def one_token(
    token_id: int, logprob: float, version: int, sampling: Sampling, context: RolloutContext
) -> Completion:
    """A piece of one token that was chosen, not sampled. What ends a completion is the tokenizer's
    end-of-sequence token and the stop tokens of its sampling."""
    ends = token_id in (context.tokenizer.eos_token_id, *sampling.stop_token_ids)
    return replace(
        NOTHING,
        token_ids=np.array([token_id], np.int32),
        logprobs=np.array([logprob], np.float32),
        finish_reason="stop" if ends else "length",
        stop_reason=token_id if ends and token_id in sampling.stop_token_ids else None,
        versions=(VersionSpan(version=version, start=0, end=1),),
    )


def piece_request(
    name: str,
    prompt: Prompt,
    draft: Draft,
    sampling: Sampling,
    context: RolloutContext,
    n: int = 1,
) -> Request:
    """Ask for what comes next in a draft.

    Args:
        name: of the request; unique in a run.
        sampling: of the piece.
    """
    return Request(
        request_id=name,
        prefix_ids=np.concatenate([prompt.token_ids, draft.completion.token_ids]),
        n=n,
        seed=request_seed(context.seed, name),
        sampling=sampling,
        affinity=prompt.prompt_id,
    )


def draft_rollouts(
    prompt: Prompt,
    names: Sequence[str],
    drafts: Sequence[Draft],
    sampling: Sampling,
    context: RolloutContext,
) -> list[Rollout]:
    """Drafts as rollouts, cut by the run's splitter, each by itself: what a PRM scores, and what
    comes of them."""
    return [
        Rollout(
            rollout_id=name,
            prompt=prompt,
            completion=draft.completion,
            steps=context.splitter.split(draft.completion),
            sample_index=index,
            iteration=context.iteration,
            seed=request_seed(context.seed, name),
            sampling=sampling,
        )
        for index, (name, draft) in enumerate(zip(names, drafts, strict=True))
    ]


def with_spent(rollouts: Sequence[Rollout], spent: Sequence[float]) -> tuple[Rollout, ...]:
    """The rollouts with what they cost."""
    both = zip(rollouts, spent, strict=True)
    return tuple(r.with_scores(**{SPENT: RolloutScore(value=float(cost))}) for r, cost in both)


def step_values(rollout: Rollout, source: str) -> list[float] | Failure:
    """A draft's step values, at least one, or why there are none."""
    score = rollout.scores.get(source)
    if isinstance(score, Failure):
        return score
    scores = rollout.step_scores(source)
    if scores is None or not len(scores.values):
        return Failure(reason="not_scored", detail=f"{source} has no step values of a draft")
    return [float(value) for value in scores.values]
