"""Monte-Carlo step values: how often does the policy reach a correct answer from here?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import Labeller, RolloutContext
from rlstep.rollouts.continuations import Continuations, Tally, with_counts
from rlstep.rollouts.requests import request_seed
from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True)
class MonteCarlo(Labeller):
    """Labels steps by continuing from them (Math-Shepherd, Wang et al. 2023, arXiv:2312.08935).

    For a step, `n` continuations of the prefix that ends with it, `k` of them correct. A truncated
    continuation counts as not correct, and is counted. The counts are stored, never only k/n.

    A rollout is itself one continuation, drawn from the policy, of every prefix of its own; with
    `own_outcome` it is counted as such (n = 1 for every step, at no cost; a branch for the steps
    from its last inherited one on). The last step has no other label: what follows it is the
    verdict.
    """

    source: ClassVar[str] = "monte_carlo"
    continues: ClassVar[bool] = True

    continuations: int = 4
    """Continuations of each labelled step."""
    fraction: float = 1.0
    """Share of a batch's steps (last ones left out) that is labelled by continuations."""
    own_outcome: bool = True
    """Count the rollout itself as one continuation of each of its steps."""

    def __post_init__(self) -> None:
        at_least("monte_carlo.continuations", self.continuations, 1)
        if not 0.0 <= self.fraction <= 1.0:
            raise ValueError(f"monte_carlo.fraction is {self.fraction}; it lies in [0, 1]")

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, with 'monte_carlo' StepScores (n = 0 where not labelled)."""
        counts = {r.rollout_id: self._own(r) for r in rollouts}
        chosen = self._choose(rollouts, context)
        async with Continuations(context) as continuations:
            drawn = await asyncio.gather(
                *(continuations.tally(rollout, step + 1, self._more) for rollout, step in chosen)
            )
        for (rollout, step), tally in zip(chosen, drawn, strict=True):
            own = counts[rollout.rollout_id]
            own[step] = own.get(step, Tally()) + tally
        return [with_counts(rollout, counts[rollout.rollout_id]) for rollout in rollouts]

    def _more(self, n: int, k: int, asked: int) -> int:
        return self.continuations - asked

    def _own(self, rollout: Rollout) -> dict[int, Tally]:
        """The rollout's own outcome, for the steps whose prefix it continues by its own sampling.

        A branch drew nothing before its last inherited step: what came there is its parent's, and
        was chosen for how the parent went on.
        """
        if not self.own_outcome:
            return {}
        inherited = rollout.inherited
        first = sum(rollout.before(i + 1) < inherited for i in range(len(rollout.steps)))
        return dict.fromkeys(range(first, len(rollout.steps)), Tally.of(rollout))

    def _choose(
        self, rollouts: Sequence[Rollout], context: RolloutContext
    ) -> list[tuple[Rollout, int]]:
        """A seeded sample of (rollout, step), in the order of the rollouts."""
        steps = [(r, i) for r in rollouts if r.outcome for i in range(len(r.steps) - 1)]
        rng = np.random.default_rng(request_seed(context.seed, f"{context.scope}/monte_carlo"))
        picked = rng.permutation(len(steps))[: ceil(self.fraction * len(steps))]
        return [steps[i] for i in sorted(picked)]
