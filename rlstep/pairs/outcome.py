"""Pairs of whole completions, ordered by their outcomes."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import at_least, named
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.assemble import Candidate, Side, assemble, candidates, in_order, whole
from rlstep.types import Group, PairSamples


@dataclass(frozen=True, kw_only=True)
class OutcomePairs(SampleBuilder):
    """All (i, j) of one prompt's group with outcome_i > outcome_j.

    The pairs of outcome DPO (Rafailov et al. 2023, arXiv:2305.18290) and, with a step source, of
    Full-Step-DPO (Xu et al. 2025, arXiv:2502.14356). Rollouts whose outcome, or whose step scores
    of that source, failed or are incomplete stand in no pair; two rollouts with the same tokens
    are one side.
    """

    makes: ClassVar[type] = PairSamples

    max_pairs: int = 0
    """Per prompt, spread evenly over its rollouts; 0 keeps all."""
    min_margin: float = 0.0
    """Least difference of the two outcomes, where a verifier grades them."""
    source: str = "outcome"
    """Whose number of a whole rollout orders them: 'outcome', or a labeller's source."""
    step_source: str = ""
    """Whose step scores go into the sequences: 'prm', 'monte_carlo', 'oracle'; '' for none."""

    def __post_init__(self) -> None:
        at_least("pairs.max_pairs", self.max_pairs, 0)
        at_least("pairs.min_margin", self.min_margin, 0.0)
        named("pairs.source", self.source, "scores, for instance 'outcome'")

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source, self.step_source} - {""})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "outcome", self.max_pairs)

    def _candidates(self, group: Group) -> list[Candidate]:
        sides = (
            Side(sequence=found, score=score)
            for rollout in in_order(group)
            if (score := rollout.whole_score(self.source)) is not None
            and (found := whole(rollout, self.step_source)) is not None
        )
        return candidates(sides, "all", self.min_margin)
