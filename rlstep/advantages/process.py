"""Advantages relative to the other rollouts of the same prompt, from step scores."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.advantages.group import Std, advantage_samples, normalise
from rlstep.interfaces import SampleBuilder
from rlstep.sequences import labelled_scores
from rlstep.types import AdvantageSamples, Floats, Group, Rollout


@dataclass(frozen=True, kw_only=True)
class ProcessAdvantages(SampleBuilder):
    """A token's advantage is the sum of the normalised scores of the steps that end at or after it.

    GRPO with process supervision (Shao et al. 2024, arXiv:2402.03300, section 4.1.3): the step
    scores of all rollouts of a prompt are normalised together. Suffix sums grow with the number of
    steps, so long chains of good steps are paid more; watch completion length. Rollouts whose step
    scores failed or are incomplete are not in the mean.
    """

    makes: ClassVar[type] = AdvantageSamples

    source: str = "prm"
    """Whose step scores: 'prm', 'monte_carlo', 'oracle'."""
    std: Std = "population"

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("advantages.source is ''; name the step scores, for instance 'prm'")

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return advantage_samples(groups, [self._scored(group) for group in groups])

    def _scored(self, group: Group) -> list[tuple[Rollout, Floats]]:
        known = [
            (rollout, scores)
            for rollout in group.rollouts
            if (scores := labelled_scores(rollout, self.source)) is not None
        ]
        pooled = [scores for _, scores in known]
        normalised = normalise(np.concatenate(pooled), self.std) if pooled else None
        if normalised is None:
            return []
        cuts = np.cumsum([len(scores) for scores in pooled])[:-1]
        per_rollout = np.split(normalised, cuts)
        return [
            (rollout, np.cumsum(steps[::-1])[::-1])
            for (rollout, _), steps in zip(known, per_rollout, strict=True)
        ]
