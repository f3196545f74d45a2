"""What estimators share that pay every step a reward made of its score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np

from rlstep.advantages.arithmetic import Wide, less_others, suffix_sums
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    complete,
    group_step_values,
    outcome_values,
    per_token,
)
from rlstep.checks import at_least, named
from rlstep.measuring.ties import cleared
from rlstep.types import Group, Rollout


@dataclass(frozen=True, kw_only=True)
class StepReturns(AdvantageBuilder):
    """Returns of step rewards and of the outcome, each less the mean of the other rollouts'.

    The return of step k is the sum of the rewards of the steps from k on. Its baseline is the mean
    return of the other rollouts at the same step (0 once they have ended): it does not depend on
    what the rollout itself did, so it neither biases the gradient nor pays for a number of steps.
    Of a turn of a conversation it is the baseline of other histories; see `Vine`.
    """

    source: str = "prm"
    """Whose step scores."""
    process_coefficient: float = 1.0
    """What the returns of step rewards are multiplied by."""
    outcome_coefficient: float = 1.0
    """What the outcome, less the mean of the others, is multiplied by."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source)
        at_least("advantages.process_coefficient", self.process_coefficient, 0.0)
        at_least("advantages.outcome_coefficient", self.outcome_coefficient, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", self.source})

    @abstractmethod
    def step_rewards(self, scores: Wide) -> Wide:
        """[K] scores of one rollout's steps, K >= 1, to [K] rewards."""

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        return [self._credit(complete(group.rollouts, *self.sources)) for group in groups]

    def _credit(self, known: list[Rollout]) -> Credit:
        rewards = [self.step_rewards(scores) for scores in group_step_values(known, self.source)]
        outcomes = self.outcome_coefficient * less_others(outcome_values(known))
        credit = []
        for rollout, steps, outcome in zip(
            known, self.process_advantages(rewards, known), outcomes, strict=True
        ):
            process = self.process_coefficient * steps
            column = cleared(process + outcome, process, outcome)
            credit.append((rollout, per_token(rollout, column)))
        return credit

    def process_advantages(self, rewards: list[Wide], rollouts: list[Rollout]) -> list[Wide]:
        """Returns of the step rewards, [K] for each rollout, less their baselines."""
        lengths = [len(steps) for steps in rewards]
        returns = np.zeros((len(rewards), max(lengths, default=0)))
        for row, steps in zip(returns, rewards, strict=True):
            row[: len(steps)] = suffix_sums(steps)
        differences = less_others(returns)
        return [row[:length] for row, length in zip(differences, lengths, strict=True)]
