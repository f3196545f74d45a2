"""Pairs of whole completions, ordered by their outcomes."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import at_least
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.assemble import Candidate, assemble, spread
from rlstep.sequences import labelled_scores, sequence
from rlstep.types import Group, PairSamples, Rollout, Sequence


@dataclass(frozen=True, kw_only=True)
class OutcomePairs(SampleBuilder):
    """All (i, j) of one prompt's group with outcome_i > outcome_j.

    The pairs of outcome DPO (Rafailov et al. 2023, arXiv:2305.18290) and, with a step source, of
    Full-Step-DPO (Xu et al. 2025, arXiv:2502.14356). Rollouts whose outcome, or whose step scores
    of that source, failed or are incomplete stand in no pair.
    """

    makes: ClassVar[type] = PairSamples

    max_pairs: int = 0
    """Per prompt, spread evenly over its rollouts; 0 keeps all."""
    step_source: str = ""
    """Whose step scores go into the sequences: 'prm', 'monte_carlo', 'oracle'; '' for none."""

    def __post_init__(self) -> None:
        at_least("pairs.max_pairs", self.max_pairs, 0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", self.step_source} - {""})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        candidates = [spread(self._candidates(group), self.max_pairs) for group in groups]
        return assemble(candidates, "outcome")

    def _candidates(self, group: Group) -> list[Candidate]:
        sides = [
            (rollout.outcome.value, side)
            for rollout in group.rollouts
            if rollout.outcome is not None and (side := self._sequence(rollout)) is not None
        ]
        return [
            Candidate(chosen=chosen, rejected=rejected, chosen_score=better, rejected_score=worse)
            for better, chosen in sides
            for worse, rejected in sides
            if better > worse
        ]

    def _sequence(self, rollout: Rollout) -> Sequence | None:
        if not self.step_source:
            return sequence(rollout)
        scores = labelled_scores(rollout, self.step_source)
        return None if scores is None else sequence(rollout, step_scores=scores)
