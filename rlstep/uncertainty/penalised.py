"""Step scores less some of their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

import numpy as np

from rlstep.checks import at_least
from rlstep.measuring.ties import cleared
from rlstep.types import Group, Rollout, Samples, Score, StepScores
from rlstep.uncertainty.sigma import step_sigma
from rlstep.uncertainty.wrapper import Wrapper, is_read, rescored


@dataclass(frozen=True, kw_only=True)
class Penalised(Wrapper):
    """Every step's score less k standard deviations, a lower confidence bound, in what is inside.

    Pays for what is surely good, as reward models with uncertainty are used against hacking (URM,
    Lou et al. 2024, arXiv:2410.00847; AdvPO, Zhang et al. 2024, arXiv:2403.05171). Bounds of
    probabilities may lie below 0: aggregate them by 'min' or 'mean', not by 'product'.
    """

    k: float = 1.0
    """Standard deviations; 0 changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("samples.k", self.k, 0.0)
        is_read(self)

    @property
    def laws(self) -> frozenset[str]:
        """None: a bound is rounded to float32, and a shifted one elsewhere."""
        return frozenset()

    def samples(self, groups: Seq[Group]) -> Samples:
        return self.of.samples(rescored(groups, self.source, self._bound))

    def _bound(self, rollout: Rollout) -> Score:
        score, sigma = rollout.scores[self.source], step_sigma(rollout, self.source)
        if sigma is None or not isinstance(score, StepScores):
            return score
        less = self.k * sigma
        bounds = cleared(score.values - less, score.values, less)
        return replace(score, values=bounds.astype(np.float32))
