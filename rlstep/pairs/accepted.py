"""Pairs of an answer and what a search of refinements found in its place."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import at_least, named
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.assemble import Candidate, assemble, from_divergence, in_order
from rlstep.types import Group, PairSamples, Rollout


@dataclass(frozen=True, kw_only=True)
class AcceptedPairs(SampleBuilder):
    """The best refinement of an original that was accepted, against the original.

    SPaR (Cheng et al. 2024, arXiv:2412.11605): after however many refinements one after the other,
    the rejected side is the answer before the first, so that the two differ in little but what
    makes the difference. Scores are of whole rollouts, and a pair's chosen one is above
    `above` and above the rejected one's. A side whose score failed (a judge's tie) stands in no
    pair. Both are trained from the first token that differs to the end.
    """

    makes: ClassVar[type] = PairSamples

    source: str = "judge"
    """Whose number of a whole rollout: 'judge', 'outcome', or a labeller's source."""
    above: float = 0.5
    """What the chosen score exceeds."""
    max_pairs: int = 0
    """Per prompt; 0 keeps all."""

    def __post_init__(self) -> None:
        named("pairs.source", self.source, "scores, for instance 'judge'")
        at_least("pairs.max_pairs", self.max_pairs, 0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "accepted", self.max_pairs)

    def _candidates(self, group: Group) -> list[Candidate]:
        rollouts = in_order(group)
        by_id = {rollout.rollout_id: rollout for rollout in rollouts}
        best: dict[str, Candidate] = {}
        for rollout in rollouts:
            origin = original(rollout, by_id)
            if origin is rollout or (found := self._candidate(rollout, origin)) is None:
                continue
            known = best.get(origin.rollout_id)
            if known is None or found.chosen_score > known.chosen_score:
                best[origin.rollout_id] = found
        return list(best.values())

    def _candidate(self, refined: Rollout, origin: Rollout) -> Candidate | None:
        after, before = refined.whole_score(self.source), origin.whole_score(self.source)
        if after is None or before is None or after <= max(before, self.above):
            return None
        cut = from_divergence(refined, origin)
        if cut is None:
            return None
        return Candidate(chosen=cut[0], rejected=cut[1], chosen_score=after, rejected_score=before)


def original(rollout: Rollout, by_id: Mapping[str, Rollout]) -> Rollout:
    """What a rollout was refined from in the end: itself, where it is no refinement.

    Args:
        by_id: the rollouts of its group.
    """
    while (parent := by_id.get(rollout.parent or "")) is not None:
        rollout = parent
    return rollout
