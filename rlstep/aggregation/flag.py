"""The mean inside of the subspace that most ranks agree on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstep.aggregation.aggregator import Weighted
from rlstep.checks import at_least

_NEAR = 1e-7
"""Keeps the weight of a rank that lies in the subspace finite."""
_FLAT = 1e-12
"""Directions of less than this share of the largest eigenvalue are rounding."""


@dataclass(frozen=True, kw_only=True)
class Flag(Weighted):
    """The Flag Aggregator (Almasi et al. 2023, arXiv:2302.05865).

    Of the normalised gradients X [d, p] it looks for the subspace Y [d, r] in which they lie best:
    with v_i = ||Y^T x_i||^2 in [0, 1] the one that maximises a Beta likelihood of the v_i, by
    iteratively reweighted least squares. Then it takes the mean inside:

        Y = the first r left singular vectors of X diag(w),  w_i = (|1 - v_i| + 1e-7)^(-1/4)
        aggregate = m Y Y^T mean(x_i),  m the median length of the gradients

    w begins as 1. Y is a combination of the columns of X, so everything follows from their p x p
    inner products, and the aggregate is a weighted sum of the gradients. With r = p nothing is
    outside of Y: it is m times the mean of the normalised gradients.

    Length: the mean of normalised gradients is shorter the less they agree, and a rank that points
    the other way takes its share of it away; the direction is what is held. A gradient of 0 (a rank
    without a micro-batch) counts in the mean, and neither in Y nor in m: set `token_budget` so that
    every rank has several micro-batches of about as many tokens. The pairwise columns that the
    paper adds for many ranks are left out.
    """

    directions: int = 1
    """r, the size of the subspace; at most the number of ranks."""
    iterations: int = 1
    """How often the ranks are weighed anew."""

    def __post_init__(self) -> None:
        at_least("flag.directions", self.directions, 1)
        at_least("flag.iterations", self.iterations, 0)

    @property
    def needs_ranks(self) -> int:
        """Of two that differ nobody knows which is wrong."""
        return max(3, self.directions)

    def weights(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        lengths = np.sqrt(gram.diagonal())
        there = lengths > 0.0
        inverse = np.divide(1.0, lengths, where=there, out=np.zeros_like(lengths))
        cosines = inverse[:, None] * gram * inverse
        weighing = np.ones(len(gram))
        for _ in range(self.iterations):
            found = self._coordinates(cosines, weighing) @ cosines  # Y^T X, [r, p]
            weighing = (np.abs(1.0 - (found * found).sum(0)) + _NEAR) ** -0.25
        basis = self._coordinates(cosines, weighing)
        inside = basis.T @ (basis @ cosines.mean(1))  # Y Y^T mean(x) = X inside
        return np.median(lengths[there]) * inside * inverse

    def _coordinates(
        self, cosines: NDArray[np.float64], weighing: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Y^T = C X^T, this is C [r, p]. With M = X diag(w) and M^T M = V diag(l) V^T the left
        singular vectors are M V l^(-1/2)."""
        values, vectors = np.linalg.eigh(weighing[:, None] * cosines * weighing)
        first = np.argsort(values)[::-1][: self.directions]
        first = first[values[first] > _FLAT * values.max()]
        return (weighing[:, None] * vectors[:, first] / np.sqrt(values[first])).T
