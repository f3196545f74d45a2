"""REINFORCE with outcomes that are normalised over the whole batch."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rlstep.advantages.arithmetic import centred
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    assemble,
    complete,
    outcome_values,
    throughout,
    whiten,
)
from rlstep.checks import named
from rlstep.types import AdvantageSamples, Group


@dataclass(frozen=True, kw_only=True)
class ReinforcePlusPlus(AdvantageBuilder):
    """(outcome - mean) / std, with the mean and the std of all trained tokens of the batch.

    REINFORCE++ (Hu et al. 2025, arXiv:2501.03262): no group is needed, and a prompt that is always
    solved still learns, from its distance to the batch. Long rollouts weigh more in the mean. With
    baseline 'group' its group-sampling form: the group's mean is subtracted first. In both forms
    the statistics are of all groups, also of those at 0 before they are whitened, and all are
    trained; a batch of equal outcomes gives nothing.

    The paper takes a KL off every token's reward before it whitens. Here `Kl(place="reward")` takes
    it off the whitened advantages: see there.
    """

    laws: ClassVar[frozenset[str]] = frozenset({"score_shift_changes_nothing"})

    baseline: Literal["batch", "group"] = "batch"
    """Whose mean is subtracted before the batch is normalised."""
    source: str = "outcome"
    """Whose number of a whole rollout: 'outcome', or a labeller's source."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source, "scores, for instance 'outcome'")

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return assemble(self.advantages(groups), "kept")

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        known = [complete(group.rollouts, self.source) for group in groups]
        outcomes = [outcome_values(rollouts, self.source) for rollouts in known]
        if self.baseline == "group":
            differences = [centred(values) for values in outcomes]
        else:
            cuts = np.cumsum([len(values) for values in outcomes])[:-1]
            differences = np.split(centred(np.concatenate(outcomes)), cuts) if outcomes else []
        return whiten(
            [throughout(rollouts, d) for rollouts, d in zip(known, differences, strict=True)],
            "kept",
        )
