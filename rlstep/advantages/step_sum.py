"""The plain sum of step scores as the return: for comparison, since it can be exploited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlstep.advantages.arithmetic import Wide
from rlstep.advantages.step_returns import StepReturns


@dataclass(frozen=True, kw_only=True)
class StepSum(StepReturns):
    """Every step is paid its score: the sum form, which pays for repeating good steps.

    The form that collapses in the comparisons of PURE (arXiv:2504.15275) and of Gao et al. 2024
    (arXiv:2410.15115): a policy that appends steps of high score raises its return without bound.
    A baseline, not a recommendation. Scores in any range, meant for PRM probabilities in [0, 1].
    """

    laws: ClassVar[frozenset[str]] = frozenset({"one_step_is_outcome"})

    def step_rewards(self, scores: Wide) -> Wide:
        return scores
