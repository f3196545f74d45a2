"""Decoding that lets a PRM choose the token wherever the policy is unsure (AdaptiveStep)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from rlstep.checks import at_least, between, named
from rlstep.interfaces import RolloutContext, RolloutStrategy
from rlstep.rollouts.drafts import (
    SPENT,
    Draft,
    draft_rollouts,
    extended,
    first_tokens,
    one_token,
    piece_request,
    step_values,
    with_spent,
)
from rlstep.rollouts.refusals import check_whole_vocabulary
from rlstep.rollouts.verification import verified
from rlstep.types import Completion, Failure, Group, Prompt, Request, Rollout, Sampling

MOST_CANDIDATES = 20
"""vLLM (0.32) tells no more of the likeliest tokens."""


@dataclass(eq=False)
class _Writing:
    """A completion that is being written."""

    prompt: Prompt
    index: int
    name: str
    draft: Draft = Draft()
    ahead: Completion | None = None
    """Sampled behind the draft, and not decided yet."""
    looked: int = 0
    """Tokens of it that stay as they were sampled."""
    spent: int = 0
    """Tokens sampled so far."""
    failure: Failure | None = None

    @property
    def open(self) -> bool:
        return self.failure is None and not self.draft.finished


@dataclass(kw_only=True, eq=False)
class _Choice:
    """A place at which a writing is unsure: what could stand there, the likeliest first."""

    writing: _Writing
    place: int
    """In what is ahead."""
    drafts: list[Draft] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ValueGuided(RolloutStrategy):
    """Greedy decoding in which a PRM decides where the policy is unsure.

    Token-level value-guided decoding of AdaptiveStep (Liu et al. 2025, arXiv:2502.13943). Where the
    sampled token's probability is (strictly) under `threshold`, the `candidates` likeliest tokens
    are each put behind the prefix, the run's splitter cuts what that makes, and the token is taken
    whose last step the PRM values most, of equals the likeliest. So a PRM that knows nothing
    decodes greedily. It should have learnt of steps that end at such tokens, as
    `AdaptiveStepSplitter(quantile=0, threshold=...)` with the same threshold cuts them.

    Tokens are sampled in chunks with their likeliest alternatives; all sequences' chunks are one
    batch, and so are all their candidates. Where another token is taken the rest of its chunk is
    thrown away. That counts: a rollout's 'sampled_tokens' are all that were sampled for it, never
    more than `budget`. Where throwing away would leave too few to finish, no choice is made.

    A rollout fails where the generator or the PRM does. Rollouts are off-policy: of their labels by
    continuations the rollout itself is none (`MonteCarlo(own_outcome=False)`).
    """

    sources: ClassVar[frozenset[str]] = frozenset({SPENT})
    chooses: ClassVar[bool] = True
    reads_logprobs: ClassVar[bool] = True

    sampling: Sampling = Sampling(temperature=0.0)
    """Lengths and stops, and the temperature of tokens that no score chooses: 0 as published."""
    samples_per_prompt: int = 1
    """Completions of each prompt; of greedy ones there is one."""
    source: str = "prm"
    """The step model that chooses."""
    threshold: float = 0.55
    """Probability under which (strictly) a token is unsure; the paper has 0.55 for mathematics and
    0.28 for code. 0 leaves every token as it was sampled."""
    candidates: int = 8
    """Tokens to choose from."""
    chunk: int = 16
    """Tokens that are sampled at once."""
    budget: int = 1024
    """Most tokens that are sampled for one completion; at least sampling.max_tokens."""

    def __post_init__(self) -> None:
        check_whole_vocabulary(self.sampling)
        at_least("rollouts.samples_per_prompt", self.samples_per_prompt, 1)
        if self.sampling.temperature == 0.0:
            between("rollouts.samples_per_prompt (greedy)", self.samples_per_prompt, 1, 1)
        named("rollouts.source", self.source)
        between("rollouts.threshold", self.threshold, 0.0, 1.0)
        between("rollouts.candidates", self.candidates, 2, MOST_CANDIDATES)
        at_least("rollouts.chunk", self.chunk, 1)
        at_least("rollouts.budget", self.budget, self.sampling.max_tokens)

    @property
    def reads(self) -> frozenset[str]:  # type: ignore[override]
        """What chooses."""
        return frozenset({self.source})

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        async with aclosing(verified(self._decoded(prompts, context), context)) as groups:
            async for group in groups:
                yield group

    async def _decoded(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncGenerator[Group, None]:
        """All sequences go in step: one batch of chunks, one of candidates, and again."""
        waiting = {
            prompt.prompt_id: [
                _Writing(prompt, index, f"{context.scope}/{prompt.prompt_id}/{index}")
                for index in range(self.samples_per_prompt)
            ]
            for prompt in prompts
        }
        while waiting:
            writings = [each for of_prompt in waiting.values() for each in of_prompt if each.open]
            await self._sample([each for each in writings if each.ahead is None], context)
            await self._choose([each for each in writings if each.open], context)
            for name in [n for n, all_of in waiting.items() if not any(w.open for w in all_of)]:
                yield self._group(waiting.pop(name), context)

    async def _sample(self, writings: Sequence[_Writing], context: RolloutContext) -> None:
        requests = [self._request(each, context) for each in writings]
        asked = {r.request_id: each for r, each in zip(requests, writings, strict=True)}
        async for request, answer in context.generator.generate(requests):
            writing = asked[request.request_id]
            if isinstance(answer, Failure):
                writing.failure = answer
            else:
                writing.ahead = answer[0]
                writing.spent += len(answer[0].token_ids)

    def _request(self, writing: _Writing, context: RolloutContext) -> Request:
        at = writing.draft.length
        sampling = replace(self.sampling, max_tokens=min(self.chunk, self.sampling.max_tokens - at))
        name = f"{writing.name}/at{at}"
        request = piece_request(name, writing.prompt, writing.draft, sampling, context)
        return replace(request, likeliest=self.candidates)

    async def _choose(self, writings: Sequence[_Writing], context: RolloutContext) -> None:
        """Go on to where each writing is unsure, and decide there, or to the end of its chunk."""
        choices = []
        for writing in writings:
            assert writing.ahead is not None
            place = self._unsure(writing, writing.ahead)
            if place is None:
                writing.draft = extended(writing.draft, writing.ahead, self.sampling, context)
                writing.ahead, writing.looked = None, 0
            else:
                choices.append(self._choice(writing, writing.ahead, place, context))
        scored = iter(await context.scorer.score_steps(self._candidates(choices, context)))
        for choice in choices:
            self._decide(choice, [next(scored) for _ in choice.drafts])

    def _unsure(self, writing: _Writing, ahead: Completion) -> int | None:
        """The next place to choose at, among those where another token could be paid for."""
        low = np.flatnonzero(np.exp(ahead.logprobs.astype(np.float64)) < self.threshold)
        left = self.budget - writing.spent
        to_write = self.sampling.max_tokens - writing.draft.length
        places = (int(p) for p in low if p >= writing.looked and left >= to_write - (p + 1))
        return next(places, None)

    def _choice(
        self, writing: _Writing, ahead: Completion, place: int, context: RolloutContext
    ) -> _Choice:
        told, sampled = ahead.likeliest, int(ahead.token_ids[place])
        assert told is not None, f"{writing.name}: the generator told no likeliest tokens"
        rows = zip(told.token_ids[place].tolist(), told.logprobs[place].tolist(), strict=True)
        # Of equally likely ones that which was sampled comes first: it is what greedy decoding has.
        ordered = sorted(rows, key=lambda row: (-row[1], row[0] != sampled))
        choice = _Choice(writing=writing, place=place)
        before = extended(writing.draft, first_tokens(ahead, place), self.sampling, context)
        version = next(s.version for s in ahead.versions if s.start <= place < s.end)
        for token_id, logprob in ordered:
            piece = one_token(token_id, logprob, version, self.sampling, context)
            choice.drafts.append(extended(before, piece, self.sampling, context))
            choice.token_ids.append(token_id)
        return choice

    def _candidates(self, choices: Sequence[_Choice], context: RolloutContext) -> list[Rollout]:
        return [
            rollout
            for choice in choices
            for rollout in draft_rollouts(
                choice.writing.prompt,
                [
                    f"{choice.writing.name}/at{draft.length - 1}/{i}"
                    for i, draft in enumerate(choice.drafts)
                ],
                choice.drafts,
                self.sampling,
                context,
            )
        ]

    def _decide(self, choice: _Choice, scored: Sequence[Rollout]) -> None:
        writing, values = choice.writing, []
        for rollout in scored:
            found = step_values(rollout, self.source)
            if isinstance(found, Failure):
                writing.failure = found
                return
            values.append(found[-1])
        best = int(np.argmax(values))  # the first of equals
        assert writing.ahead is not None
        if choice.token_ids[best] == writing.ahead.token_ids[choice.place]:
            writing.looked = choice.place + 1
        else:
            writing.draft, writing.ahead, writing.looked = choice.drafts[best], None, 0

    def _group(self, writings: Sequence[_Writing], context: RolloutContext) -> Group:
        done = [each for each in writings if each.failure is None]
        prompt = writings[0].prompt
        names, drafts = [each.name for each in done], [each.draft for each in done]
        made = draft_rollouts(prompt, names, drafts, self.sampling, context)
        both = zip(made, done, strict=True)
        rollouts = [replace(rollout, sample_index=each.index) for rollout, each in both]
        return Group(
            prompt=prompt,
            rollouts=with_spent(rollouts, [each.spent for each in done]),
            failures=tuple(each.failure for each in writings if each.failure is not None),
        )
