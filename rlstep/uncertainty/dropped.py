"""No score rather than one that nobody is sure of."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rlstep.checks import at_least
from rlstep.measuring.ties import tolerance
from rlstep.types import Failure, Group, Rollout, Samples, Score
from rlstep.uncertainty.sigma import step_sigma
from rlstep.uncertainty.wrapper import Wrapper, is_read, rescored

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dropped(Wrapper):
    """A rollout with a step whose score is too uncertain counts as one whose scoring failed.

    In place of the scores of this source what is inside finds Failure('uncertain'), and treats it
    like any other: the rollout is in no pair and in no baseline. Filtering by ensemble disagreement
    as in URME (Lou et al. 2024, arXiv:2410.00847), for any source.
    """

    most: float = 0.0
    """Largest standard deviation of a step, in the unit of the scores; 0 keeps everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("samples.most", self.most, 0.0)
        is_read(self)

    def samples(self, groups: Seq[Group]) -> Samples:
        kept = rescored(groups, self.source, self._kept)
        scores = [r.scores.get(self.source) for group in kept for r in group.rollouts]
        dropped = sum(isinstance(s, Failure) and s.reason == "uncertain" for s in scores)
        if dropped:
            logger.warning(
                "too uncertain scores of %r: %d of %d", self.source, dropped, len(scores)
            )
        return self.of.samples(kept)

    def _kept(self, rollout: Rollout) -> Score:
        sigma = step_sigma(rollout, self.source)
        if sigma is None or not self.most or (sigma <= self.most + tolerance(self.most)).all():
            return rollout.scores[self.source]
        step = int(sigma.argmax())
        return Failure(
            reason="uncertain", detail=f"{self.source}: {sigma[step]:.3g} at step {step}"
        )
