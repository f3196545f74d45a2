"""Search over steps: of several candidates for the next one the PRM keeps the best."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from math import inf
from typing import ClassVar, Literal

from rlstep.checks import at_least, between, named
from rlstep.interfaces import RolloutContext, RolloutStrategy
from rlstep.rollouts.drafts import (
    SPENT,
    Draft,
    draft_rollouts,
    extended,
    first_tokens,
    piece_request,
    step_values,
    with_spent,
)
from rlstep.rollouts.refusals import check_whole_vocabulary
from rlstep.rollouts.verification import verified
from rlstep.types import Completion, Failure, Group, Prompt, Request, Sampling

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Beam:
    """A prefix of whole steps."""

    draft: Draft
    value: float = -inf
    """What the PRM says of it."""


@dataclass(eq=False)
class _Search:
    """The beams of one prompt, the best first."""

    prompt: Prompt
    name: str
    beams: list[_Beam] = field(default_factory=lambda: [_Beam(draft=Draft())])
    rounds: int = 0
    ending: bool = False
    """What is open is sampled to its end: the budget pays for no further choice."""
    spent: int = 0
    """Tokens sampled so far."""
    found: dict[bytes, Draft] = field(default_factory=dict)
    """Of this round, each once, by token ids."""
    failures: list[Failure] = field(default_factory=list)
    """Of candidates."""

    @property
    def open(self) -> list[_Beam]:
        return [beam for beam in self.beams if not beam.draft.finished]


@dataclass(frozen=True, kw_only=True)
class StepBeam(RolloutStrategy):
    """Step beam search: each of `width` prefixes is continued by `candidates` samples of its next
    step, the PRM values them, and the best `width` go on.

    As in Yao et al. 2023 (arXiv:2305.10601, algorithm 1) and Snell et al. 2024 (arXiv:2408.03314),
    the PRM being the judge; a width of 1 is best-of-steps. Finished
    completions stand in the beam by their value like any other, and of equals the older one stays.
    With one candidate and a width of 1 it is plain sampling.

    The run's splitter says where the step ends. An engine does not know it: `step_ends` stops it
    there where a string can, and what is sampled behind a step's end is thrown away. That counts:
    a prompt is never sampled more than `budget` tokens. Before a round that could leave too few to
    finish, the best beams are sampled to their end instead. A rollout's 'sampled_tokens' are its
    share of all.

    A candidate that fails is left out, and counted by reason in a warning; where that leaves no
    beam, a rollout fails for the same reason. Rollouts are off-policy: of their labels by
    continuations the rollout itself is none (`MonteCarlo(own_outcome=False)`).
    """

    sources: ClassVar[frozenset[str]] = frozenset({SPENT})
    chooses: ClassVar[bool] = True

    sampling: Sampling = Sampling()
    """Lengths, temperature and stops of the completions."""
    width: int = 4
    """Prefixes that are kept."""
    candidates: int = 4
    """Samples of each one's next step; of the first step width times as many."""
    samples_per_prompt: int = 1
    """How many of the last beam are the prompt's group, the best first: at most `width`."""
    source: str = "prm"
    """The step model that values."""
    rank: Literal["minimum", "last"] = "minimum"
    """A prefix's value: the lowest of its steps' (a chain is as good as its weakest step), or the
    last one's."""
    step_ends: tuple[str, ...] = ("\n",)
    """Strings behind which the engine stops, as the splitter cuts; () stops nowhere."""
    step_tokens: int = 64
    """Most tokens of a candidate; a longer step goes on in the next round."""
    budget: int = 4096
    """Most tokens that are sampled for one prompt; at least samples_per_prompt times
    sampling.max_tokens."""

    def __post_init__(self) -> None:
        check_whole_vocabulary(self.sampling)
        for name in ("width", "candidates", "step_tokens"):
            at_least(f"rollouts.{name}", getattr(self, name), 1)
        between("rollouts.samples_per_prompt", self.samples_per_prompt, 1, self.width)
        if self.sampling.temperature == 0.0 and self.width * self.candidates > 1:
            raise ValueError(
                f"rollouts.sampling.temperature is 0 (greedy), where all of {self.candidates}"
                f" candidates and {self.width} beams are the same; it must be positive, usually 1.0"
            )
        named("rollouts.source", self.source)
        least = self.samples_per_prompt * self.sampling.max_tokens
        at_least("rollouts.budget", self.budget, least)

    @property
    def reads(self) -> frozenset[str]:  # type: ignore[override]
        """What values."""
        return frozenset({self.source})

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        async with aclosing(verified(self._searched(prompts, context), context)) as groups:
            async for group in groups:
                yield group

    async def _searched(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncGenerator[Group, None]:
        """All prompts go in step: one batch of next steps, one of values, and again."""
        searches = [_Search(p, f"{context.scope}/{p.prompt_id}") for p in prompts]
        failed: Counter[str] = Counter()
        while searches:
            await self._sample(searches, context)
            await self._keep(searches, context)
            for search in [each for each in searches if not self._goes_on(each)]:
                searches.remove(search)
                failed.update(failure.reason for failure in search.failures)
                yield self._group(search, context)
        if failed:
            logger.warning("candidates for steps that failed, by reason: %s", dict(failed))

    async def _sample(self, searches: Sequence[_Search], context: RolloutContext) -> None:
        asked: dict[str, tuple[_Search, _Beam]] = {}
        requests = []
        for search in searches:
            self._prepare(search)
            for index, beam in enumerate(search.open):
                request = self._request(search, index, beam, context)
                asked[request.request_id] = search, beam
                requests.append(request)
        answers = {r.request_id: a async for r, a in context.generator.generate(requests)}
        for name, (search, beam) in asked.items():  # in the order of asking
            if isinstance(answer := answers[name], Failure):
                search.failures.append(answer)
            else:
                search.spent += sum(len(piece.token_ids) for piece in answer)
                for piece in answer:
                    draft = self._next(search, beam, piece, context)
                    search.found.setdefault(draft.completion.token_ids.tobytes(), draft)

    def _prepare(self, search: _Search) -> None:
        """Decide whether the budget pays for one more choice, and for an end after it."""
        longest = self.sampling.max_tokens
        left = [longest - beam.draft.length for beam in search.open]
        most = sum(min(self.step_tokens, tokens) for tokens in left) * self._samples_of(search)
        search.rounds += 1
        if search.spent + most + self.samples_per_prompt * max(left) > self.budget:
            search.ending = True
            search.beams = search.beams[: self.samples_per_prompt]

    def _samples_of(self, search: _Search) -> int:
        """How many of each open beam's next pieces are asked for."""
        first = not search.open[0].draft.length
        if search.ending:
            return self.samples_per_prompt if first else 1
        return self.candidates * self.width if first else self.candidates

    def _request(
        self, search: _Search, index: int, beam: _Beam, context: RolloutContext
    ) -> Request:
        left, stop = self.sampling.max_tokens - beam.draft.length, self.sampling.stop
        sampling = replace(self.sampling, max_tokens=left)
        if not search.ending:
            most = min(self.step_tokens, left)
            sampling = replace(sampling, max_tokens=most, stop=(*stop, *self.step_ends))
        name = f"{search.name}/step{search.rounds}/{index}"
        n = self._samples_of(search)
        return piece_request(name, search.prompt, beam.draft, sampling, context, n)

    def _next(
        self, search: _Search, beam: _Beam, piece: Completion, context: RolloutContext
    ) -> Draft:
        """The prefix with the first step of what was sampled, or to its end."""
        pauses = [end for end in self.step_ends if end not in self.sampling.stop]
        whole = extended(beam.draft, piece, self.sampling, context, pauses)
        if search.ending:
            return whole
        ends = [step.end for step in context.splitter.split(whole.completion)]
        end = next((end for end in ends if end > beam.draft.length), whole.length)
        if end >= whole.length:
            return whole
        return Draft(completion=first_tokens(whole.completion, end))

    async def _keep(self, searches: Sequence[_Search], context: RolloutContext) -> None:
        rollouts, owners = [], []
        for search in searches:
            drafts = list(search.found.values())
            names = [f"{search.name}/step{search.rounds}/{i}" for i in range(len(drafts))]
            rollouts += draft_rollouts(search.prompt, names, drafts, self.sampling, context)
            owners += [(search, draft) for draft in drafts]
            search.found.clear()
            search.beams = [beam for beam in search.beams if beam.draft.finished]
        scored = await context.scorer.score_steps(rollouts)
        for rollout, (search, draft) in zip(scored, owners, strict=True):
            values = step_values(rollout, self.source)
            if isinstance(values, Failure):
                search.failures.append(values)
            else:
                value = min(values) if self.rank == "minimum" else values[-1]
                search.beams.append(_Beam(draft=draft, value=value))
        for search in searches:
            search.beams.sort(key=lambda beam: -beam.value)  # of equals the older one first
            search.beams = search.beams[: self.width]

    def _goes_on(self, search: _Search) -> bool:
        """A minimum only falls: where the best are finished, no other beam gets before them."""
        best = search.beams[: self.samples_per_prompt]
        falls = self.rank == "minimum" and all(beam.draft.finished for beam in best)
        return bool(search.open) and not falls

    def _group(self, search: _Search, context: RolloutContext) -> Group:
        best = search.beams[: self.samples_per_prompt]
        names = [f"{search.name}/{index}" for index in range(len(best))]
        drafts = [beam.draft for beam in best]
        rollouts = draft_rollouts(search.prompt, names, drafts, self.sampling, context)
        return Group(
            prompt=search.prompt,
            rollouts=with_spent(rollouts, [search.spent / len(best)] * len(best)) if best else (),
            failures=tuple(search.failures[: self.samples_per_prompt - len(best)]),
        )
