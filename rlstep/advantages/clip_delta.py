"""Step rewards whose sum is bounded, whatever the number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.advantages.arithmetic import Wide
from rlstep.advantages.step_returns import StepReturns
from rlstep.checks import between
from rlstep.measuring.ties import cleared


@dataclass(frozen=True, kw_only=True)
class Clip(StepReturns):
    """A step is paid min(score - eta, 0): good steps get nothing, bad ones cost.

    The clipping mechanism of Gao et al. 2024 (arXiv:2410.15115), added to the success reward:
    returns are never positive, so no repeated step can raise them. Scores are PRM probabilities in
    [0, 1].
    """

    laws: ClassVar[frozenset[str]] = frozenset({"one_step_is_outcome"})

    eta: float = 0.5
    """Steps that score at least this cost nothing; in [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        between("advantages.eta", self.eta, 0.0, 1.0)

    def step_rewards(self, scores: Wide) -> Wide:
        return np.minimum(cleared(scores - self.eta, scores, self.eta), 0.0)


@dataclass(frozen=True, kw_only=True)
class Delta(StepReturns):
    """A step is paid its score less the next one's, so that the return of a step is its own score.

    The delta mechanism of Gao et al. 2024 (arXiv:2410.15115), added to the success reward: of K
    steps, step k < K - 1 gets score_k - score_k+1, step K - 1 its score and the last step, which
    holds the answer, 0. Repeating steps cannot raise a return. Scores are PRM probabilities in
    [0, 1].
    """

    laws: ClassVar[frozenset[str]] = frozenset({"one_step_is_outcome"})

    def step_rewards(self, scores: Wide) -> Wide:
        before_the_last = np.append(scores[:-1], 0.0)
        return before_the_last - np.append(before_the_last[1:], 0.0)
