"""log Z = log E_q[exp(f) / q], estimated from few samples at a time.

The logarithm of a mean of K samples is too low on average, by about var / (2 K Z^2) (Jensen), and
averaging such logarithms over many visits does not help. The compositional estimate keeps the mean
itself between visits, u <- (1 - gamma) u + gamma mean(exp(f) / q), and takes the logarithm once
(stochastic compositional gradients: Wang, Fang and Liu 2017, arXiv:1411.3803). Its variance is
gamma / (2 - gamma) times that of one visit, so its bias is smaller by the same factor and does not
end at 0 for a constant gamma. Where nothing moves and all samples are kept, the logarithm of the
mean over all of them (gamma = 1 / visit) is better still.

Everything is in log space, so that exp(f) may be beyond any float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstep.checks import between, positive


def log_mean_exp(log_weights: ArrayLike) -> float:
    """log mean exp, without overflow.

    Args:
        log_weights: [K], K >= 1; -inf for a weight of 0.
    """
    weights = np.asarray(log_weights, dtype=np.float64)
    return float(np.logaddexp.reduce(weights) - np.log(len(weights)))


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPartition:
    """The running estimate. Records are frozen: a visit makes a new one."""

    gamma: float = 0.25
    """In (0, 1], how much the latest visit counts; at 1 it is the plain estimate of that visit."""
    log_u: float | None = None
    """log u; None before the first visit."""

    def __post_init__(self) -> None:
        positive("gamma", self.gamma)
        between("gamma", self.gamma, 0.0, 1.0)

    def visited(self, log_weights: ArrayLike) -> LogPartition:
        """After K more samples. The first visit is taken as it is.

        Args:
            log_weights: [K], K >= 1: f - log q of each sample.
        """
        seen = log_mean_exp(log_weights)
        if self.log_u is None or self.gamma == 1.0:
            return LogPartition(gamma=self.gamma, log_u=seen)
        kept = self.log_u + np.log1p(-self.gamma)
        mixed = float(np.logaddexp(kept, seen + np.log(self.gamma)))
        return LogPartition(gamma=self.gamma, log_u=mixed)

    def gradient_weights(self, log_weights: ArrayLike) -> NDArray[np.float64]:
        """By how much each sample's gradient of f counts in that of log Z: exp(f) / q / (K u), [K].

        With u = Z their expectation is the exact gradient for any K, since u is divided by and not
        estimated from the same samples; the plain estimate divides by its own mean.

        Raises:
            ValueError: there was no visit.
        """
        if self.log_u is None:
            raise ValueError("log_u is None; a gradient needs at least 1 visit before it")
        weights = np.asarray(log_weights, dtype=np.float64)
        return np.exp(weights - self.log_u - np.log(len(weights)))
