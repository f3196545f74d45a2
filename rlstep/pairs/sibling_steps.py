"""Pairs of single steps that follow the same prefix."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import at_least, named
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.assemble import (
    Candidate,
    Side,
    Which,
    assemble,
    candidates,
    in_order,
)
from rlstep.pairs.divergence import Divergence, divergences
from rlstep.tensors.sequences import sequence
from rlstep.types import Group, PairSamples, Rollout


@dataclass(frozen=True, kw_only=True)
class SiblingStepPairs(SampleBuilder):
    """Two different steps after exactly the same steps, ordered by their step scores.

    Step preferences between siblings (SVPO, Chen et al. 2024, arXiv:2406.10858), trained as in
    Step-DPO (arXiv:2406.18629): both sides are cut after the step, only the step is in the loss
    mask, and no end-of-sequence token is appended. Rollouts that share the first steps by chance
    count as much as branches. A step that is the beginning of the other differs in nothing but
    where it was cut, and gives no pair.
    """

    makes: ClassVar[type] = PairSamples

    source: str = "prm"
    """Whose step scores: 'prm', 'monte_carlo', 'oracle'. A step without a label stands aside."""
    which: Which = "best_worst"
    """Of the siblings after one prefix."""
    max_pairs: int = 0
    """Per prompt; 0 keeps all."""
    min_margin: float = 0.0
    """Least difference of the two step scores. A PRM that is still learning orders siblings of like
    scores by its noise, which this keeps out."""

    def __post_init__(self) -> None:
        named("pairs.source", self.source)
        at_least("pairs.max_pairs", self.max_pairs, 0)
        at_least("pairs.min_margin", self.min_margin, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        found = [
            [c for at in divergences(in_order(group)) for c in self._candidates(at)]
            for group in groups
        ]
        return assemble(found, "sibling_steps", self.max_pairs)

    def _candidates(self, at: Divergence) -> list[Candidate]:
        sides = [
            Side(sequence=sequence(rollout, start=step.start, end=step.end), score=score)
            for rollouts in at.siblings
            for rollout in rollouts
            if (score := self._score(rollout, at.step)) is not None
            for step in [rollout.steps[at.step]]
        ]
        return [c for c in candidates(sides, self.which, self.min_margin) if _differ(c)]

    def _score(self, rollout: Rollout, step: int) -> float | None:
        scores = rollout.step_scores(self.source)
        if scores is None or (scores.n is not None and not scores.n[step]):
            return None
        return float(scores.values[step])


def _differ(candidate: Candidate) -> bool:
    """Whether some token of the two is different, so that neither is the other's beginning."""
    a, b = candidate.chosen.token_ids, candidate.rejected.token_ids
    length = min(len(a), len(b))
    return bool((a[:length] != b[:length]).any())
