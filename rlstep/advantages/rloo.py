"""REINFORCE with the other rollouts of the same prompt as the baseline."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.advantages.arithmetic import less_others
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    complete,
    outcome_values,
    throughout,
)
from rlstep.checks import named
from rlstep.types import Group


@dataclass(frozen=True, kw_only=True)
class Rloo(AdvantageBuilder):
    """outcome - mean outcome of the prompt's other rollouts, the same for every token.

    REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv:2402.14740, section 2.2): unbiased, since
    a rollout is not in its own baseline. A prompt with one rollout has no baseline, so no signal.
    """

    laws: ClassVar[frozenset[str]] = frozenset(
        {"one_step_is_outcome", "score_shift_changes_nothing", "advantages_cancel"}
    )

    source: str = "outcome"
    """Whose number of a whole rollout: 'outcome', or a labeller's source."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source, "scores, for instance 'outcome'")

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        known = [complete(group.rollouts, self.source) for group in groups]
        return [
            throughout(rollouts, less_others(outcome_values(rollouts, self.source)))
            for rollouts in known
        ]
