"""Requests, and the rollouts made of their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlstep.interfaces import RolloutContext, SampleOne
from rlstep.tensors.text import decode_with_ends
from rlstep.types import (
    Completion,
    Failure,
    Group,
    Prompt,
    Request,
    Rollout,
    Sampling,
    Step,
    TokenIds,
    VersionSpan,
)


def request_seed(seed: int, what: str) -> int:
    """A seed of 48 bits from the run's seed and the name of what is asked.

    It depends on nothing else, so a resumed run asks for the same samples.
    """
    digest = hashlib.blake2b(f"{seed}/{what}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def prompt_request(prompt: Prompt, n: int, sampling: Sampling, context: RolloutContext) -> Request:
    """Ask for `n` completions of a prompt."""
    return Request(
        request_id=f"{context.scope}/{prompt.prompt_id}",
        prefix_ids=prompt.token_ids,
        n=n,
        seed=request_seed(context.seed, f"{context.scope}/{prompt.prompt_id}"),
        sampling=sampling,
        affinity=prompt.prompt_id,
    )


def group_of(
    prompt: Prompt,
    request: Request,
    answer: tuple[Completion, ...] | Failure,
    context: RolloutContext,
) -> Group:
    """The group of one prompt's answer; a failed request is a group of no rollouts."""
    if isinstance(answer, Failure):
        return Group(prompt=prompt, rollouts=(), failures=(answer,))
    steps = context.splitter.split_all(answer)
    rollouts = tuple(
        Rollout(
            rollout_id=f"{request.request_id}/{index}",
            prompt=prompt,
            completion=completion,
            steps=steps[index],
            sample_index=index,
            iteration=context.iteration,
            seed=request.seed,
            sampling=request.sampling,
        )
        for index, completion in enumerate(answer)
    )
    return Group(prompt=prompt, rollouts=rollouts)


def regroup(groups: Sequence[Group], rollouts: Sequence[Rollout]) -> list[Group]:
    """The groups with these rollouts, as many in each as before."""
    rest = iter(rollouts)
    return [replace(g, rollouts=tuple(next(rest) for _ in g.rollouts)) for g in groups]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A request to go on from the first `steps` steps of a rollout."""

    parent: Rollout
    steps: int
    request: Request

    @property
    def inherited(self) -> int:
        """Completion tokens taken over from the parent."""
        return self.parent.before(self.steps)


def branch(
    parent: Rollout, steps: int, n: int, purpose: str, sampling: Sampling, context: RolloutContext
) -> Branch:
    """Ask for `n` continuations of a rollout's first `steps` steps."""
    name = f"{parent.rollout_id}/{purpose}{steps}"
    inherited = parent.before(steps)
    request = Request(
        request_id=name,
        prefix_ids=parent.prefix_ids(steps),
        n=n,
        seed=request_seed(context.seed, name),
        # The limits hold for the whole completion. At least one token, so that a prefix at the
        # limit is asked for and counted as truncated.
        sampling=replace(
            sampling,
            max_tokens=max(1, sampling.max_tokens - inherited),
            min_tokens=max(0, sampling.min_tokens - inherited),
        ),
        affinity=parent.prompt.prompt_id,
    )
    return Branch(parent=parent, steps=steps, request=request)


def branch_rollouts(
    origin: Branch, answer: Sequence[Completion], context: RolloutContext
) -> list[Rollout]:
    """Whole rollouts out of continuations: the parent's prefix is taken over token by token."""
    parent, kept = origin.parent, origin.inherited
    wholes = [joined(parent.completion, kept, each, context) for each in answer]
    return [
        Rollout(
            rollout_id=f"{origin.request.request_id}/{index}",
            prompt=parent.prompt,
            completion=whole,
            steps=_steps_from(parent.steps[: origin.steps], kept, steps),
            sample_index=index,
            iteration=context.iteration,
            seed=origin.request.seed,
            sampling=parent.sampling,
            parent=parent.rollout_id,
            inherited=kept,
        )
        for index, (whole, steps) in enumerate(
            zip(wholes, context.splitter.split_all(wholes), strict=True)
        )
    ]


async def continued(
    origin: Branch, sample: SampleOne, context: RolloutContext
) -> list[Rollout] | Failure:
    """The continuations of a branch, verified. The one way on from the middle of a rollout: where
    rollouts are conversations, the run's strategy replays the turns before and goes on."""
    if context.conversing is not None:
        made = await context.conversing.go_on(
            origin.parent, origin.steps, origin.request, sample, context
        )
    else:
        answer = await sample(origin.request)
        made = answer if isinstance(answer, Failure) else branch_rollouts(origin, answer, context)
    return made if isinstance(made, Failure) else await with_outcomes(made, context)


async def with_outcomes(rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
    """The rollouts with an outcome: the environment's, where it decides, else the scorer's."""
    if context.conversing is not None and context.conversing.environment.decides:
        return list(rollouts)
    return await context.scorer.verify(rollouts)


def joined(
    parent: Completion, kept: int, continuation: Completion, context: RolloutContext
) -> Completion:
    """The parent's first `kept` tokens and what follows them, decoded as a whole."""
    token_ids: TokenIds = np.concatenate([parent.token_ids[:kept], continuation.token_ids])
    text, ends = decode_with_ends(context.tokenizer, token_ids)
    inherited = [
        replace(span, end=min(span.end, kept)) for span in parent.versions if span.start < kept
    ]
    written = [
        VersionSpan(version=span.version, start=span.start + kept, end=span.end + kept)
        for span in continuation.versions
    ]
    return Completion(
        token_ids=token_ids,
        logprobs=np.concatenate([parent.logprobs[:kept], continuation.logprobs]),
        text=text,
        ends=ends,
        finish_reason=continuation.finish_reason,
        stop_reason=continuation.stop_reason,
        versions=(*inherited, *written),
        observed=tuple(span for span in parent.observed if span.end <= kept),
        cached=continuation.cached,
    )


def _steps_from(
    inherited: tuple[Step, ...], kept: int, steps: tuple[Step, ...]
) -> tuple[Step, ...]:
    """The parent's steps, then the splitter's; a new step starts where the inherited ones end."""
    new = [Step(start=max(step.start, kept), end=step.end) for step in steps if step.end > kept]
    return (*inherited, *new)
