"""The first wrong step of a rollout, found by halving instead of by labelling every step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlstep.interfaces import Labeller, RolloutContext
from rlstep.rollouts.continuations import Continuations, Tally, with_counts
from rlstep.rollouts.stopping import BetaStopping
from rlstep.types import Rollout


async def first_low(count: int, is_low: Callable[[int], Awaitable[bool | None]]) -> int | None:
    """Index of the first low one of `count` > 0 prefixes, the last of which is known to be low.

    Exact where no high prefix follows a low one; elsewhere it finds a low one that follows a high
    one (or the first of all). Asks for at most ceil(log2(count)) prefixes, never for the last.

    Args:
        is_low: whether prefix i is low; None where that is not known, which ends the search.

    Returns:
        The index, or None where the search was ended.
    """
    start, end = 0, count - 1
    while start < end:
        middle = (start + end) // 2
        low = await is_low(middle)
        if low is None:
            return None
        start, end = (start, middle) if low else (middle + 1, end)
    return start


@dataclass(frozen=True, kw_only=True)
class FirstErrorSearch(Labeller):
    """Finds the first wrong step of wrong rollouts by binary search over their prefixes.

    The search of OmegaPRM (Luo et al. 2024, arXiv:2406.06592, 3.2): a prefix is low where too few
    of its continuations are correct, and all prefixes from the first wrong step on are taken to be
    low. At most ceil(log2 K) of K prefixes are continued instead of K - 1. All rollouts are
    searched at the same time; none waits for another's answers.

    Only what was asked for is labelled: a step the search passed over has n = 0, which readers of
    the scores take as no label (`pairs.first_error` as right). The last step's label is the verdict
    (n = 1). A correct rollout is not searched; nor is one without a verdict, which has no label at
    all. Where a prefix got no verdict on any continuation, the search of its rollout ends.
    """

    source: ClassVar[str] = "monte_carlo"
    continues: ClassVar[bool] = True

    stopping: BetaStopping = BetaStopping()
    """When a prefix has enough continuations, and the threshold under which it is low; who reads
    the scores must use the same threshold."""

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, with 'monte_carlo' StepScores of counts."""
        async with Continuations(context) as continuations:
            return await asyncio.gather(*(self._search(r, continuations) for r in rollouts))

    async def _search(self, rollout: Rollout, continuations: Continuations) -> Rollout:
        verdict = Tally.of(rollout)
        found = {len(rollout.steps) - 1: verdict}

        async def is_low(step: int) -> bool | None:
            tally = await continuations.tally(rollout, step + 1, self.stopping.more)
            found[step] = tally
            return self.stopping.low(tally.n, tally.k) if tally.n else None

        if verdict.n and not verdict.k:
            await first_low(len(rollout.steps), is_low)
        return with_counts(rollout, found)
