"""Pairs of candidates that an evaluator ranked."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import at_least, named
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.assemble import Candidate, Side, Which, assemble, candidates, in_order
from rlstep.tensors.sequences import sequence
from rlstep.types import Group, PairSamples


@dataclass(frozen=True, kw_only=True)
class RankedPairs(SampleBuilder):
    """Candidates ranked by one score of the whole rollout, which is also the pair's.

    UV-CoT's construction (Zhao et al. 2025, arXiv:2504.18397): a prompt's candidates each name a
    region and answer from it, an evaluator scores region and answer, and pairs come from the
    ranking. The difference of the two scores is what `ScoreOffsetDpo` asks for as a margin.
    Candidates that train the same tokens are one, those whose score failed stand aside, and equal
    scores order nothing.
    """

    makes: ClassVar[type] = PairSamples

    source: str = "reward"
    """Whose score of a rollout: 'outcome', or a labeller's, such as a WeightedSum's."""
    which: Which = "best_worst"
    """All pairs, the best against the worst, or the best against the best of those that score
    lower."""
    max_pairs: int = 0
    """Per prompt; 0 keeps all."""
    min_margin: float = 0.0
    """Least difference of the pair's scores, in the score's own unit."""

    def __post_init__(self) -> None:
        named("pairs.source", self.source)
        at_least("pairs.max_pairs", self.max_pairs, 0)
        at_least("pairs.min_margin", self.min_margin, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "ranked", self.max_pairs)

    def _candidates(self, group: Group) -> list[Candidate]:
        sides = (
            Side(sequence=sequence(rollout), score=score)
            for rollout in in_order(group)
            if (score := rollout.whole_score(self.source)) is not None
        )
        return candidates(sides, self.which, self.min_margin)
