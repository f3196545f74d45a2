"""Arithmetic that advantage estimators share: suffix sums, baselines, GAE. Float64 throughout."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlstep.measuring.ties import RELATIVE, TINY, tied

Wide: TypeAlias = NDArray[np.float64]
Std: TypeAlias = Literal["population", "sample", "none"]
"""Divide by n, by n - 1, or do not divide by a standard deviation at all."""


def suffix_sums(values: Wide, discount: float = 1.0) -> Wide:
    """sum over j >= i of discount^(j - i) values[j], for every i.

    Doubles the reach of every entry in each round, so that a thousand tokens take ten additions.

    Args:
        values: [N].
    """
    out = np.array(values, dtype=np.float64)
    reach = 1
    while reach < len(out):
        out[:-reach] += discount * out[reach:]
        discount, reach = discount * discount, 2 * reach
    return out


def centred(values: Wide) -> Wide:
    """values - their mean along the first axis; exactly 0 where all are equal but for rounding."""
    if not len(values):
        return values
    rounding = np.maximum(RELATIVE * np.abs(values).max(axis=0), TINY)
    return np.where(np.ptp(values, axis=0) <= rounding, 0.0, values - values.mean(axis=0))


def less_others(values: Wide) -> Wide:
    """values - the mean of the others along the first axis; exactly 0 where there are no others."""
    n = len(values)
    return centred(values) * (n / max(n - 1, 1))


def deviation(values: Wide, std: Std) -> float:
    """The standard deviation; 1 for 'none', and where all are equal but for rounding."""
    if std == "none" or tied(values):
        return 1.0
    return float(values.std(ddof=0 if std == "population" else 1))


def gae(rewards: Wide, values: Wide, gamma: float, lam: float) -> Wide:
    """Generalised advantages (arXiv:1506.02438, eq. 16) of one finished episode.

    A_i = sum over j >= i of (gamma lam)^(j - i) delta_j, delta_j = r_j + gamma V(s_j+1) - V(s_j),
    the value after the last action being 0.

    Args:
        rewards: [N], of action i.
        values: [N], of the state before action i.
    """
    after = np.append(values[1:], 0.0)
    return suffix_sums(rewards + gamma * after - values, gamma * lam)


def lambda_returns(rewards: Wide, values: Wide, gamma: float, lam: float) -> Wide:
    """Targets for the values: A_i + V(s_i) with the advantages of `gae`.

    At lam 1 the discounted return, at lam 0 the one-step target r_i + gamma V(s_i+1).
    """
    return gae(rewards, values, gamma, lam) + values
