"""Monte-Carlo step values with as many continuations as it takes to tell high from low."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlstep.interfaces import Labeller, RolloutContext
from rlstep.rollouts.continuations import Continuations, Tally, with_counts
from rlstep.rollouts.stopping import BetaStopping
from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True)
class AdaptiveMonteCarlo(Labeller):
    """Continues every step until its Beta posterior lies on one side of a threshold.

    The estimate of Math-Shepherd (Wang et al. 2023, arXiv:2312.08935) with a sequential number of
    draws: after k correct ones of n, the success rate is Beta(1 + k, 1 + n - k). A step whose
    continuations all fail is settled after a few, one near the threshold gets all of them.

    The last step's label is the verdict (n = 1); a rollout without a verdict is not labelled. The
    ratio k/n of a sequence that is stopped early leans away from the threshold: it tells steps
    apart, and as an estimate of the value its weight is its n.
    """

    source: ClassVar[str] = "monte_carlo"
    continues: ClassVar[bool] = True

    stopping: BetaStopping = BetaStopping()
    """When a step has been continued often enough."""

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, with 'monte_carlo' StepScores of counts."""
        async with Continuations(context) as continuations:
            return await asyncio.gather(*(self._label(r, continuations) for r in rollouts))

    async def _label(self, rollout: Rollout, continuations: Continuations) -> Rollout:
        last = len(rollout.steps) - 1
        prefixes = range(1, len(rollout.steps) if rollout.outcome else 1)
        drawn = await asyncio.gather(
            *(continuations.tally(rollout, steps, self.stopping.more) for steps in prefixes)
        )
        return with_counts(rollout, {**dict(enumerate(drawn)), last: Tally.of(rollout)})
