"""Advantages relative to the other rollouts of the same prompt, from step scores."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.advantages.arithmetic import Std, centred, deviation, suffix_sums
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    WithoutSignal,
    assemble,
    complete,
    group_step_values,
    per_token,
)
from rlstep.checks import between, named
from rlstep.types import AdvantageSamples, Group


@dataclass(frozen=True, kw_only=True)
class ProcessAdvantages(AdvantageBuilder):
    """A token's advantage is the sum of the normalised scores of the steps that end at or after it.

    GRPO with process supervision (Shao et al. 2024, arXiv:2402.03300, section 4.1.3): the step
    scores of all rollouts of a prompt are normalised together, so their range does not matter.
    Suffix sums grow with the number of steps: long chains of good steps are paid more; watch
    completion length. Rollouts whose step scores failed or are incomplete are not in the mean.
    Groups whose scores are all equal have advantages of 0 and are in the loss's mean (eq. 3).
    """

    laws: ClassVar[frozenset[str]] = frozenset(
        {"one_step_is_outcome", "score_shift_changes_nothing"}
    )

    source: str = "prm"
    """Whose step scores: 'prm', 'monte_carlo', 'oracle'."""
    std: Std = "population"
    """What scores are divided by: the std over n, over n - 1, or nothing."""
    without_signal: WithoutSignal = "kept"
    """Groups whose step scores are all equal; see `GroupAdvantages`."""
    gamma: float = 1.0
    """In [0, 1], what a step's score is worth to the step before it. The paper's is 1. At 0 a step
    is paid for itself alone: the noise of the steps after it does not grow with the chain, and what
    it did to them goes unpaid."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source)
        between("advantages.gamma", self.gamma, 0.0, 1.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return assemble(self.advantages(groups), self.without_signal)

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        return [self._credit(group) for group in groups]

    def _credit(self, group: Group) -> Credit:
        known = complete(group.rollouts, self.source)
        if not known:
            return []
        scores = group_step_values(known, self.source)
        pooled = np.concatenate(scores)
        normalised = centred(pooled) / deviation(pooled, self.std)
        cuts = np.cumsum([len(values) for values in scores])[:-1]
        return [
            (rollout, per_token(rollout, suffix_sums(values, self.gamma)))
            for rollout, values in zip(known, np.split(normalised, cuts), strict=True)
        ]
