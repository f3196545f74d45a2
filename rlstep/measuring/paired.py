"""Two models on the same problems: by how much they differ, and whether by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
_BLOCK = 1 << 22
"""Most indices that are drawn at a time."""
_EQUAL = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The second minus the first, over problems that both have."""

    first: float
    """Its mean."""
    second: float
    value: float
    low: float
    """Where the 95 % interval begins."""
    high: float
    p_value: float
    """Two-sided: the share of resamples that are as far from the difference as it is from 0."""
    problems: int


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Resample problems with replacement, each with what both models made of it (Efron and
    Tibshirani 1993, chapters 13 and 16; of two systems on one test set Berg-Kirkpatrick et al.
    2012, D12-1091).

    Args:
        first: float [problems].
        second: float [problems], of the same problems in the same order.

    Raises:
        ValueError: there is no problem.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert one.shape == other.shape and one.ndim == 1
    if not len(one):
        raise ValueError("there is no problem that both have")
    changes, random = other - one, np.random.default_rng(seed)
    block = max(1, _BLOCK // len(changes))
    sizes = [min(block, resamples - done) for done in range(0, resamples, block)]
    draws = (random.integers(0, len(changes), (size, len(changes))) for size in sizes)
    means = np.concatenate([changes[drawn].mean(1) for drawn in draws])
    low, high, p_value = interval_and_p(float(changes.mean()), means)
    return Difference(
        first=float(one.mean()),
        second=float(other.mean()),
        value=float(changes.mean()),
        low=low,
        high=high,
        p_value=p_value,
        problems=len(changes),
    )


def interval_and_p(value: float, means: NDArray[np.float64]) -> tuple[float, float, float]:
    """The 95 % percentile interval, and the two-sided p-value against no difference.

    The resamples, moved so that their mean is 0, stand for what chance makes of no difference. The
    observed one counts as one of them, so that no p-value is 0.

    Args:
        value: the difference.
        means: float64 [resamples], the same of each resample.
    """
    low, high = np.quantile(means, [0.025, 0.975])
    as_far = int((np.abs(means - value) >= abs(value) - _EQUAL).sum())
    return float(low), float(high), (1 + as_far) / (1 + len(means))


@dataclass(frozen=True, kw_only=True, slots=True)
class Flipped:
    """Problems on which the two do not agree, by their ids."""

    better: Sequence[str]
    """Right in the second alone."""
    worse: Sequence[str]
    """Right in the first alone."""


def flipped(names: Sequence[str], first: ArrayLike, second: ArrayLike) -> Flipped:
    """Right is what has at least one half: of one completion, or of the votes of several."""
    one, other = np.asarray(first) >= 0.5, np.asarray(second) >= 0.5
    return Flipped(
        better=[name for name, a, b in zip(names, one, other, strict=True) if b and not a],
        worse=[name for name, a, b in zip(names, one, other, strict=True) if a and not b],
    )
