"""Two estimators' advantages of the same rollouts, added."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rlstep.advantages.assemble import AdvantageBuilder, Credit, WithoutSignal, assemble
from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.process import ProcessAdvantages
from rlstep.checks import at_least
from rlstep.measuring.ties import cleared
from rlstep.types import AdvantageSamples, Group


@dataclass(frozen=True, kw_only=True)
class Mixture(AdvantageBuilder):
    """A weighted sum of two estimators' advantages, by default GRPO's by outcome and by process.

    Outcome and process supervision side by side, as in PRIME (arXiv:2502.01456) and PURE
    (arXiv:2504.15275), for any two estimators. Each keeps its own baseline and scale; a rollout
    that one of them leaves out (failed or incomplete scores) is not trained.
    """

    outcome: AdvantageBuilder = GroupAdvantages()
    """Estimates from verdicts."""
    process: AdvantageBuilder = ProcessAdvantages()
    """Estimates from step scores."""
    outcome_coefficient: float = 1.0
    """What the first one's advantages are multiplied by."""
    process_coefficient: float = 1.0
    """What the second one's advantages are multiplied by."""
    without_signal: WithoutSignal = "kept"
    """Groups whose sums are all 0; see `GroupAdvantages`. The two estimators' own settings of it
    are about their samples, not their advantages, and play no part here."""

    def __post_init__(self) -> None:
        at_least("advantages.outcome_coefficient", self.outcome_coefficient, 0.0)
        at_least("advantages.process_coefficient", self.process_coefficient, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return self.outcome.sources | self.process.sources

    @property
    def laws(self) -> frozenset[str]:
        return self.outcome.laws & self.process.laws - {"one_token_steps_are_tokens"}

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return assemble(self.advantages(groups), self.without_signal)

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        both = zip(self.outcome.advantages(groups), self.process.advantages(groups), strict=True)
        return [self._sum(outcome, process) for outcome, process in both]

    def _sum(self, outcome: Credit, process: Credit) -> Credit:
        others = {rollout.rollout_id: column for rollout, column in process}
        credit = []
        for rollout, column in outcome:
            if rollout.rollout_id in others:
                one = self.outcome_coefficient * column
                other = self.process_coefficient * others[rollout.rollout_id]
                credit.append((rollout, cleared(one + other, one, other)))
        return credit
