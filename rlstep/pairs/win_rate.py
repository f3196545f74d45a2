"""Pairs that carry how often each side beats the policy's own samples."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstep.checks import at_least
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.aggregate import Aggregate
from rlstep.measuring.ties import settled
from rlstep.pairs.assemble import (
    Candidate,
    Side,
    Which,
    assemble,
    candidates,
    in_order,
    score_of,
    whole,
)
from rlstep.types import Group, PairSamples


def win_rates(scores: Seq[float]) -> NDArray[np.float64]:
    """float64 [n] in [0, 1]: the share of all n, itself included, that each beats; a tie is half.

    They sum to n / 2, and equal scores win one half.
    """
    own, other = np.expand_dims(scores, 1), np.expand_dims(scores, 0)
    return ((own > other) + 0.5 * (own == other)).sum(axis=1) / max(len(scores), 1)


@dataclass(frozen=True, kw_only=True)
class WinRatePairs(SampleBuilder):
    """Pairs whose scores are win rates against the prompt's own samples, for SPPO's loss.

    SPPO (Wu et al. 2024, arXiv:2405.00675): P(y beats the policy) is estimated over the K samples
    of the prompt, y itself included, and the best is paired with the worst. In place of the paper's
    preference model, outcomes (or aggregated step scores) decide who beats whom. Repeated samples
    count in the rates, and are one side.
    """

    makes: ClassVar[type] = PairSamples

    source: str = ""
    """'' compares outcomes; otherwise the aggregated step scores of this source, which the
    sequences then carry."""
    aggregate: Aggregate = "min"
    """How a rollout's score is made of step scores."""
    which: Which = "best_worst"
    """All pairs, the best against the worst, or the best against the best of those that score
    lower."""
    max_pairs: int = 0
    """Per prompt; 0 keeps all."""
    min_margin: float = 0.0
    """Least difference of the two win rates."""

    def __post_init__(self) -> None:
        at_least("pairs.max_pairs", self.max_pairs, 0)
        at_least("pairs.min_margin", self.min_margin, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source or "outcome"})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "win_rate", self.max_pairs)

    def _candidates(self, group: Group) -> list[Candidate]:
        known = [
            (score, found)
            for rollout in in_order(group)
            if (score := score_of(rollout, self.source, self.aggregate)) is not None
            and (found := whole(rollout, self.source)) is not None
        ]
        rates = win_rates(settled([score for score, _ in known]).tolist())
        sides = (
            Side(sequence=found, score=float(rate))
            for rate, (_, found) in zip(rates, known, strict=True)
        )
        return candidates(sides, self.which, self.min_margin)
