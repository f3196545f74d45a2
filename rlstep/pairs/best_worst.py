"""One pair a prompt: its best completion against its worst."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import at_least, named
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.aggregate import Aggregate
from rlstep.measuring.ties import settled, tied
from rlstep.pairs.assemble import (
    Candidate,
    Side,
    assemble,
    candidates,
    in_order,
    score_of,
    whole,
)
from rlstep.types import Group, PairSamples


@dataclass(frozen=True, kw_only=True)
class BestWorstPairs(SampleBuilder):
    """Best against worst of a prompt, by outcome and within equal outcomes by step scores.

    A rollout's step scores are one number as in Lightman et al. 2023 (arXiv:2305.20050: product or
    minimum). The pair's scores are the outcomes; where all outcomes of the prompt are equal, they
    are the aggregated step scores, and `min_margin` says how far apart these must be. The sequences
    carry the step scores. Rollouts without an outcome or with incomplete step scores stand aside.
    """

    makes: ClassVar[type] = PairSamples

    source: str = "prm"
    """Whose step scores: 'prm', 'monte_carlo', 'oracle'."""
    aggregate: Aggregate = "min"
    """How a rollout's score is made of step scores."""
    min_margin: float = 0.0
    """Least difference of the pair's scores."""

    def __post_init__(self) -> None:
        named("pairs.source", self.source)
        at_least("pairs.min_margin", self.min_margin, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", self.source})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "best_worst")

    def _candidates(self, group: Group) -> list[Candidate]:
        known = [
            (score, rollout.outcome.value, found)
            for rollout in in_order(group)
            if rollout.outcome is not None
            and (score := score_of(rollout, self.source, self.aggregate)) is not None
            and (found := whole(rollout, self.source)) is not None
        ]
        # The ordering by outcome is stable: the first is the best of the best, the last the worst.
        scores = settled([score for score, _, _ in known])
        ranked = [known[i] for i in sorted(range(len(known)), key=lambda i: -scores[i])]
        differ = not tied([outcome for _, outcome, _ in known])
        sides = (
            Side(sequence=found, score=outcome if differ else score)
            for score, outcome, found in ranked
        )
        return candidates(sides, "best_worst", self.min_margin)
