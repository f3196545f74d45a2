"""From step scores to what is decided with them: one score of a chain, the best of N, a vote, the
first error.

Pure functions of numbers. N chains (completions of one prompt), K steps of one chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstep.measuring.ties import tolerance

Aggregate: TypeAlias = Literal["min", "product", "last", "mean"]
"""One number from a chain's step scores."""

_AGGREGATES = {"min": np.min, "product": np.prod, "last": lambda v: v[-1], "mean": np.mean}


def chain_score(scores: ArrayLike, aggregate: Aggregate) -> float:
    """One score of a chain; for probabilities the product is that of no mistake at all.

    Product and minimum as in Lightman et al. 2023 (arXiv:2305.20050, appendix F).

    Args:
        scores: float [K], K at least 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    assert values.ndim == 1 and len(values), "a chain has at least one step"
    return float(_AGGREGATES[aggregate](values))


def best(scores: ArrayLike) -> int:
    """Index of the highest of N scores, the lowest index where several are equal.

    Raises:
        ValueError: there is no score, or one is not finite.
    """
    return int(np.argmax(_finite(scores)))


def weighted_vote(answers: Sequence[str], scores: ArrayLike) -> str:
    """The answer whose chains have the highest sum of scores; at scores of 1 the majority's.

    Weighted self-consistency (Li et al. 2022, arXiv:2206.02336). Equal sums: the answer that comes
    first. Answers are compared as texts.

    Args:
        answers: [N], the extracted answer of each chain.
        scores: float [N].

    Raises:
        ValueError: there is no answer, or a score is not finite.
    """
    weights: dict[str, list[float]] = {}
    for answer, score in zip(answers, _finite(scores).tolist(), strict=True):
        weights.setdefault(answer, []).append(score)
    # Exact sums: the order of the chains decides nothing but ties.
    totals = [math.fsum(parts) for parts in weights.values()]
    return list(weights)[best(totals)]


def best_of_n(scores: ArrayLike, outcomes: ArrayLike, n: int) -> float:
    """Expected outcome of the best-scored of n chains, from N >= n chains, without bias.

    The mean over all subsets of n chains, and not over one draw (the protocol of Lightman et al.
    2023, arXiv:2305.20050). With the scores in order, the highest of a subset has rank r or lower
    with probability C(r, n) / C(N, n). Equal scores share: any of them may be the first.
    With the outcomes themselves as scores it is pass@n (Chen et al. 2021, arXiv:2107.03374, eq. 1).

    Args:
        scores: float [N].
        outcomes: float [N], of the same chains; 1 for a correct answer.

    Raises:
        ValueError: n is not in [1, N], or a score is not finite.
    """
    values, results = _finite(scores), np.asarray(outcomes, dtype=np.float64)
    assert values.shape == results.shape
    if not 1 <= n <= len(values):
        nearest = min(max(n, 1), len(values))
        raise ValueError(f"n is {n} of {len(values)} chains; the nearest valid value is {nearest}")
    _, level, sizes = np.unique(values, return_inverse=True, return_counts=True)
    means = np.bincount(level, results) / sizes
    return float(_rank_shares(len(values), n) @ means[np.sort(level)])


@lru_cache(maxsize=256)
def _rank_shares(chains: int, n: int) -> NDArray[np.float64]:
    """float64 [N]: the chance that the highest of n of N chains has each rank, the lowest first."""
    subsets = math.comb(chains, n)
    ways = (math.comb(rank, n - 1) for rank in range(chains))  # the others are below it
    return np.array([float(Fraction(number, subsets)) for number in ways])


def first_below(scores: ArrayLike, threshold: float) -> int | None:
    """Index of the first step that scores under the threshold (strictly, and by more than
    rounding), None if none does."""
    least = threshold - tolerance(threshold)
    found = np.flatnonzero(np.asarray(scores, dtype=np.float64) < least)
    return int(found[0]) if len(found) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstErrorAccuracy:
    """How well first errors are found (ProcessBench, Zheng et al. 2024, arXiv:2412.06559)."""

    erroneous: float
    """Share of the chains with an error whose first error was found exactly."""
    correct: float
    """Share of the chains without one of which none was claimed."""

    @property
    def f1(self) -> float:
        """The harmonic mean of the two; 0 where one of them is 0."""
        total = self.erroneous + self.correct
        return 2 * self.erroneous * self.correct / total if total else 0.0


def first_error_accuracy(
    found: Sequence[int | None], labels: Sequence[int | None]
) -> FirstErrorAccuracy:
    """Compare claimed first errors with the true ones.

    Args:
        found: [N], index of the first wrong step of each chain, None for no error.
        labels: [N], the same, true.

    Raises:
        ValueError: there is no chain with an error, or none without.
    """
    right = {True: [], False: []}
    for claim, label in zip(found, labels, strict=True):
        right[label is not None].append(claim == label)
    if not (right[True] and right[False]):
        raise ValueError(
            f"labels: {len(right[True])} chains with an error, {len(right[False])} without; the F1"
            " needs at least 1 of each"
        )
    return FirstErrorAccuracy(
        erroneous=float(np.mean(right[True])), correct=float(np.mean(right[False]))
    )


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("scores: there must be at least one, and all finite")
    return values
