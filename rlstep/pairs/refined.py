"""Pairs of a completion and its own refinement."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import at_least
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.aggregate import Aggregate
from rlstep.measuring.ties import tied, tolerance
from rlstep.pairs.assemble import (
    Candidate,
    assemble,
    from_divergence,
    in_order,
    score_of,
)
from rlstep.types import Group, PairSamples, Rollout


@dataclass(frozen=True, kw_only=True)
class RefinedPairs(SampleBuilder):
    """A branch that turned out better against the rollout that it was branched from.

    The idea of SPaR (Cheng et al. 2024, arXiv:2412.11605), whose own pairs are `AcceptedPairs`: the
    rejected side is the same completion before its refinement, so the two differ in little but what
    makes the difference. Whatever the branch
    inherited, both sides are trained from the first token that differs to the end.
    """

    makes: ClassVar[type] = PairSamples

    source: str = ""
    """'' compares outcomes; otherwise the aggregated step scores of this source."""
    aggregate: Aggregate = "min"
    """How a rollout's score is made of step scores."""
    max_pairs: int = 0
    """Per prompt; 0 keeps all."""
    min_margin: float = 0.0
    """Least difference of the two scores."""

    def __post_init__(self) -> None:
        at_least("pairs.max_pairs", self.max_pairs, 0)
        at_least("pairs.min_margin", self.min_margin, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source or "outcome"})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "refined", self.max_pairs)

    def _candidates(self, group: Group) -> list[Candidate]:
        by_id = {rollout.rollout_id: rollout for rollout in group.rollouts}
        found = [
            self._candidate(branch, by_id[branch.parent])
            for branch in in_order(group)
            if branch.parent in by_id
        ]
        return [candidate for candidate in found if candidate is not None]

    def _candidate(self, branch: Rollout, parent: Rollout) -> Candidate | None:
        after = score_of(branch, self.source, self.aggregate)
        before = score_of(parent, self.source, self.aggregate)
        if after is None or before is None or after < before or tied([after, before]):
            return None
        if after - before < self.min_margin - tolerance([after, before]):
            return None
        cut = from_divergence(branch, parent)
        if cut is None:
            return None
        return Candidate(chosen=cut[0], rejected=cut[1], chosen_score=after, rejected_score=before)
