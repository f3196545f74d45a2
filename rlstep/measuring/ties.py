"""Which numbers are equal but for rounding: one tolerance for whatever compares scores.

0.1 + 0.2 is not 0.3 in floating point, and a step model's float32 scores differ in their last digit
with the batch they were computed in. Numbers are taken as equal where they differ by no more than
RELATIVE of the largest of those compared, or by TINY. So the unit of a reward does not matter; the
sums of a reward whose parts cancel (0.1 + 0.2 - 0.3) are 0; and a product of step scores under TINY
is 0 too (aggregate chains of a hundred steps by 'min' or 'mean').
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RELATIVE = 1e-6
"""Sixteen times the spacing of float32 numbers around 1."""
TINY = 1e-15
"""What is left of numbers around 1 that cancel."""


def tolerance(values: ArrayLike) -> float:
    """The largest difference between two of these numbers that is rounding."""
    largest = np.abs(np.asarray(values, dtype=np.float64)).max(initial=0.0)
    return max(RELATIVE * float(largest), TINY)


def tied(values: ArrayLike) -> bool:
    """Whether all are equal but for rounding; true of one number and of none."""
    found = np.asarray(values, dtype=np.float64)
    return not found.size or float(np.ptp(found)) <= tolerance(found)


def settled(values: ArrayLike) -> NDArray[np.float64]:
    """The same numbers, those that are equal but for rounding made exactly so.

    Of numbers whose neighbours in order are no further apart than the tolerance all become the one
    in the middle, so a set of equal numbers is left as it is, whatever order they come in.

    Args:
        values: float [N], finite.
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return found
    rising = np.sort(found)
    starts = np.flatnonzero(np.append(True, np.diff(rising) > tolerance(found)))
    ends = np.append(starts[1:], len(found)) - 1
    middles = rising[(starts + ends) // 2]
    return middles[np.searchsorted(rising[starts], found, side="right") - 1]


def cleared(values: NDArray[np.float64], *of: ArrayLike) -> NDArray[np.float64]:
    """What sums and differences came to, exactly 0 where that is the rounding of their terms.

    Args:
        values: float of any shape.
        of: the terms they were made of, each of any shape.
    """
    return np.where(np.abs(values) <= max(map(tolerance, of)), 0.0, values)
