"""Advantages relative to the other rollouts of the same prompt, from outcomes."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlstep.advantages.arithmetic import Wide, centred, deviation
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    WithoutSignal,
    assemble,
    complete,
    outcome_values,
    throughout,
)
from rlstep.checks import named
from rlstep.measuring.ties import settled, tied
from rlstep.types import AdvantageSamples, Group


@dataclass(frozen=True, kw_only=True)
class GroupAdvantages(AdvantageBuilder):
    """(outcome - mean) / std over a prompt's rollouts, the same for every token of a rollout.

    GRPO with outcome supervision (Shao et al. 2024, arXiv:2402.03300, section 4.1.2); with std
    'none' Dr. GRPO (Liu et al. 2025, arXiv:2503.20783). The mean is always the group's; with over
    'batch' the std is that of all outcomes of the batch (arXiv:2508.08221). Rollouts without an
    outcome are in no mean. Groups with equal outcomes have advantages of 0 and are in the loss's
    mean, as in eq. 3 of GRPO and in Dr. GRPO; DAPO (arXiv:2503.14476) leaves them out.
    """

    source: str = "outcome"
    """Whose number of a whole rollout: 'outcome', or a labeller's source."""
    std: Literal["population", "sample", "leave_one_out", "none"] = "population"
    """Divide by n, by n - 1, or not at all. 'leave_one_out': a rollout's mean and (population) std
    are those of the others; where the others are all equal, its std is the whole group's."""
    over: Literal["group", "batch"] = "group"
    """Whose outcomes make the std."""
    without_signal: WithoutSignal = "kept"
    """Groups with equal outcomes: 'kept' ones count in the loss's mean and feel its KL and entropy
    bonus; 'left_out' they are not trained, what DAPO's dynamic sampling leaves (it samples others
    in their place, which is not done here). Where no group has signal nothing is trained."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source, "scores, for instance 'outcome'")
        if (self.std, self.over) == ("leave_one_out", "batch"):
            raise ValueError(
                "advantages.over is 'batch'; with std 'leave_one_out' the only valid value is"
                " 'group'"
            )

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    @property
    def laws(self) -> frozenset[str]:
        always = frozenset({"score_shift_changes_nothing"})
        if self.std == "leave_one_out":  # every rollout has a scale of its own
            return always
        return always | {"one_step_is_outcome", "advantages_cancel"}

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return assemble(self.advantages(groups), self.without_signal)

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        known = [complete(group.rollouts, self.source) for group in groups]
        outcomes = [outcome_values(rollouts, self.source) for rollouts in known]
        batch = np.concatenate(outcomes) if outcomes else np.zeros(0)
        return [
            throughout(rollouts, self._normalised(values, batch))
            for rollouts, values in zip(known, outcomes, strict=True)
        ]

    def _normalised(self, values: Wide, batch: Wide) -> Wide:
        if self.std == "leave_one_out":
            return leave_one_out(values)
        return centred(values) / deviation(values if self.over == "group" else batch, self.std)


def leave_one_out(values: Wide) -> Wide:
    """(v_i - mean of the others) / std of the others, [N]; 0 where all are equal.

    Equal is equal but for rounding: others that differ by less have no scale of their own.
    """
    n, values = len(values), settled(values)
    if tied(values):
        return np.zeros(n)
    others = np.broadcast_to(values, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    spread = np.where(np.ptp(others, axis=1) == 0.0, values.std(), others.std(axis=1))
    return (values - others.mean(axis=1)) / spread
