"""What published protocols say of a model that scores: the threshold and the F1 of first errors
(ProcessBench, arXiv:2412.06559), and who beats whom (RMB, arXiv:2410.09893).

Pure functions of numbers, beside `aggregate.first_below` and `first_error_accuracy`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstep.measuring.aggregate import FirstErrorAccuracy
from rlstep.measuring.ties import settled, tolerance


def best_threshold(scores: Sequence[ArrayLike], labels: Sequence[int | None]) -> float:
    """The threshold under which a step is called wrong that gives the highest F1 on these chains.

    Of a chain only an interval of thresholds is right: those above the score of its first wrong
    step and at most the lowest score before it; of a chain without an error, those at most its
    lowest score. So only the middles between the ends of intervals are tried, which is exact. Of
    equal ones it is the one nearest to 1/2, the lower of two.

    Args:
        scores: of each of N chains float [K], probabilities.
        labels: [N], index of the first wrong step, None for no error. There is one of each kind.
    """
    erroneous = np.array([label is not None for label in labels], dtype=bool)
    assert erroneous.any() and not erroneous.all(), "the F1 needs chains of both kinds"
    bounds = np.array(
        [_right_within(chain, label) for chain, label in zip(scores, labels, strict=True)]
    )
    ends = np.unique(settled(np.concatenate([bounds.ravel(), [0.0, 1.0]])))
    tried = (ends[:-1] + ends[1:]) / 2
    found = {
        kind: _right(bounds[erroneous == kind], tried) / (erroneous == kind).sum()
        for kind in (True, False)
    }
    total = found[True] + found[False]
    f1 = 2 * found[True] * found[False] / np.where(total > 0, total, 1.0)
    among = tried[f1 >= f1.max() - tolerance(f1)]
    return float(among[np.argmin(np.abs(among - 0.5))])


def _right_within(scores: ArrayLike, label: int | None) -> tuple[float, float]:
    """Thresholds t with low < t <= high find the label; none does where low is not below high."""
    values = np.asarray(scores, dtype=np.float64)
    if label is None:
        return 0.0, float(values.min())
    return float(values[label]), float(values[:label].min(initial=1.0))


def _right(bounds: NDArray[np.float64], tried: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of the intervals hold each of the thresholds that are tried."""
    proper = bounds[bounds[:, 0] < bounds[:, 1]]
    opened = np.searchsorted(np.sort(proper[:, 0]), tried, side="left")
    closed = np.searchsorted(np.sort(proper[:, 1]), tried, side="left")
    return (opened - closed).astype(np.float64)


def f1_error(found: FirstErrorAccuracy, erroneous: int, correct: int) -> float:
    """Standard error of the F1, to first order in those of its two shares.

    With F = 2ab / (a + b): dF/da = 2 b^2 / (a + b)^2, dF/db = 2 a^2 / (a + b)^2, and the variance
    of a share a of n chains is a (1 - a) / n.

    Args:
        found: the two shares.
        erroneous: how many chains have an error.
        correct: how many have none.
    """
    a, b = found.erroneous, found.correct
    if not a + b:
        return 0.0
    slopes = 2 * b**2 / (a + b) ** 2, 2 * a**2 / (a + b) ** 2
    variances = a * (1 - a) / erroneous, b * (1 - b) / correct
    return math.sqrt(sum(s**2 * v for s, v in zip(slopes, variances, strict=True)))


def beats_all(best: float, others: ArrayLike) -> bool:
    """Whether a score is above every other one, strictly and by more than rounding.

    With one other RMB's pairwise accuracy, with several its best-of-N, counts where this is true: a
    tie is wrong, and so is a best answer that a single loser reaches.

    Args:
        others: float [N], N at least 1.
    """
    values = np.asarray(others, dtype=np.float64)
    assert values.ndim == 1 and len(values), "nothing to beat"
    return bool(best - values.max() > tolerance([best, *values]))
