"""Continuations of a batch's prefixes: asked for, verified and counted, each draw once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlstep.interfaces import RolloutContext
from rlstep.rollouts.asking import Asking
from rlstep.rollouts.requests import Branch, branch, continued, request_seed
from rlstep.types import Failure, Rollout, Sampling, StepScores, TokenIds, Verdict

logger = logging.getLogger(__name__)

More = Callable[[int, int, int], int]
"""(draws with a verdict, correct ones, draws asked for) -> how many to draw next, 0 for enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What the continuations of one prefix said."""

    n: int = 0
    """Continuations with a verdict."""
    k: int = 0
    """Correct ones; one that was cut at max_tokens is none."""
    truncated: int = 0
    version: int | None = None
    """The oldest policy version that wrote one of them."""

    @classmethod
    def of(cls, rollout: Rollout) -> Tally:
        """One continuation: what a rollout sampled itself. Without a verdict it says nothing."""
        if rollout.outcome is None:
            return cls()
        cut = rollout.completion.truncated
        versions = [v.version for v in rollout.completion.versions if v.end > rollout.inherited]
        return cls(
            n=1,
            k=int(rollout.outcome.verdict is Verdict.CORRECT and not cut),
            truncated=int(cut),
            version=min(versions, default=rollout.oldest_version),
        )

    def __add__(self, other: Tally) -> Tally:
        versions = [v for v in (self.version, other.version) if v is not None]
        return Tally(
            n=self.n + other.n,
            k=self.k + other.k,
            truncated=self.truncated + other.truncated,
            version=min(versions, default=None),
        )


def with_counts(rollout: Rollout, tallies: Mapping[int, Tally]) -> Rollout:
    """The rollout with 'monte_carlo' scores: k/n and the counts by step, 0 where there are none."""
    rows = [tallies.get(step, Tally()) for step in range(len(rollout.steps))]
    n, k, truncated = (
        np.array([getattr(row, name) for row in rows], dtype=np.int32)
        for name in ("n", "k", "truncated")
    )
    versions = [row.version for row in rows if row.version is not None]
    scores = StepScores(
        values=(k / np.maximum(n, 1)).astype(np.float32),
        version=min(versions, default=rollout.oldest_version),
        n=n,
        k=k,
        truncated=truncated,
    )
    return rollout.with_scores(monte_carlo=scores)


def with_visits(rollout: Rollout, visits: Mapping[int, Seq[Tally]]) -> Rollout:
    """The same of prefixes that were continued on several visits: the counts of all of them, and
    where any had more than one also those of each."""
    counted = with_counts(rollout, {step: sum(seen, Tally()) for step, seen in visits.items()})
    scores, most = counted.step_scores("monte_carlo"), max(map(len, visits.values()), default=0)
    if most < 2 or scores is None:
        return counted
    counts = np.zeros((2, most, len(rollout.steps)), dtype=np.int32)
    for step, seen in visits.items():
        for number, tally in enumerate(seen):
            counts[:, number, step] = tally.n, tally.k
    return counted.with_scores(monte_carlo=replace(scores, visits=counts))


def prefix_seed(prefix_ids: TokenIds, context: RolloutContext) -> int:
    """The seed of a prefix's first continuation; the i-th has it plus i.

    It depends on the prefix, the iteration and the run's seed, not on who asks for how many:
    estimators that are given the same rollouts see the same continuations.
    """
    digest = hashlib.blake2b(prefix_ids.astype("<i4").tobytes(), digest_size=16).hexdigest()
    return request_seed(context.seed, f"{context.scope}/continue/{digest}")


class Continuations:
    """Draws continuations through the generators, an `async with` block long.

    Any number of coroutines may ask at the same time. What they ask for in one turn of the event
    loop travels together, in the order of asking, so a rollout's prefixes are asked for from the
    shortest on and each finds the one before it in the generator's prefix cache.

    Args:
        context: the roles and the run's seed.
        temperature: of the draws; None draws as the rollouts were drawn.
    """

    def __init__(self, context: RolloutContext, temperature: float | None = None) -> None:
        self._context = context
        self._temperature = temperature
        self._tallies: dict[tuple[str, bytes], asyncio.Task[Tally]] = {}
        self._correct: dict[tuple[str, bytes], Rollout] = {}
        self._asking = Asking(context.generator.generate)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: Counter[str] = Counter()

    async def __aenter__(self) -> Continuations:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing stays behind where the block was left by an error."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._asking.close()
        if self._failures:
            logger.warning("continuations that failed, by reason: %s", dict(self._failures))

    async def tally(self, parent: Rollout, steps: int, more: More) -> Tally:
        """Counts of the prefix that a rollout's first `steps` steps end.

        Rollouts with the same prompt and prefix share its draws. A request that fails is counted by
        reason in a warning, and its draws have no verdict.

        Args:
            more: says when enough are drawn; the same for all who ask.
        """
        key = _key(parent, steps)
        if key not in self._tallies:
            self._tallies[key] = self._start(self._count(parent, steps, more))
        return await self._tallies[key]

    def correct(self, parent: Rollout, steps: int) -> Rollout | None:
        """The first correct continuation among those counted of a prefix, whole."""
        return self._correct.get(_key(parent, steps))

    async def _count(self, parent: Rollout, steps: int, more: More) -> Tally:
        total, asked = Tally(), 0
        while number := more(total.n, total.k, asked):
            made = await self.draw(parent, steps, asked, number)
            total, asked = sum(map(Tally.of, made), total), asked + number
            for rollout in made:
                if Tally.of(rollout).k:
                    self._correct.setdefault(_key(parent, steps), rollout)
            if not self._sampling(parent).temperature:
                break  # every further one would be the same
        return total

    async def draw(self, parent: Rollout, steps: int, first: int, number: int) -> list[Rollout]:
        """The prefix's continuations `first` .. `first + number - 1`, verified; none where the
        request failed. A greedy one is drawn once."""
        sampling = self._sampling(parent)
        number = number if sampling.temperature else 1
        origin = _continuation(parent, steps, first, number, sampling, self._context)
        made = await continued(origin, self._asking.ask, self._context)
        if isinstance(made, Failure):
            self._failures[made.reason] += 1
            return []
        return made

    def _sampling(self, parent: Rollout) -> Sampling:
        if self._temperature is None:
            return parent.sampling
        return replace(parent.sampling, temperature=self._temperature)

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        return task


def _key(parent: Rollout, steps: int) -> tuple[str, bytes]:
    """What rollouts with the same prompt and prefix have in common."""
    return parent.prompt.prompt_id, parent.prefix_ids(steps).tobytes()


def _continuation(
    parent: Rollout,
    steps: int,
    first: int,
    number: int,
    sampling: Sampling,
    context: RolloutContext,
) -> Branch:
    origin = branch(parent, steps, number, "mc", sampling, context)
    name, seed = origin.request.request_id, prefix_seed(origin.request.prefix_ids, context)
    request = replace(
        origin.request, request_id=f"{name}+{first}" if first else name, seed=seed + first
    )
    return replace(origin, request=request)
