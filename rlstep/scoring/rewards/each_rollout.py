"""What labellers share that look at one rollout at a time and ask nobody."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from rlstep.interfaces import Labeller, RolloutContext
from rlstep.types import Failure, Rollout, RolloutScore


class EachRollout(Labeller):
    """A score for every rollout by itself: it depends on no other rollout of the batch."""

    @abstractmethod
    def score(self, rollout: Rollout) -> RolloutScore | Failure:
        """One number in the range that the labeller documents, or what went wrong."""

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return [rollout.with_scores(**{self.source: self.score(rollout)}) for rollout in rollouts]
