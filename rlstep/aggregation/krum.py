"""The one rank that has the most others near it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstep.aggregation.aggregator import Weighted
from rlstep.checks import at_least


@dataclass(frozen=True, kw_only=True)
class Krum(Weighted):
    """Krum (Blanchard et al. 2017, arXiv:1703.02757, section 4).

    Of p gradients, f of which may be anything, it takes the one whose p - f - 2 nearest others are
    the nearest, by the sum of squared distances |g_i|^2 + |g_j|^2 - 2 <g_i, g_j>. Its guarantee
    needs p >= 2 f + 3. The work of all other ranks is thrown away.
    """

    faulty: int = 1
    """f, how many ranks may be wrong."""

    def __post_init__(self) -> None:
        at_least("krum.faulty", self.faulty, 1)

    @property
    def needs_ranks(self) -> int:
        return 2 * self.faulty + 3

    def weights(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        squares = gram.diagonal()
        distances = squares[:, None] + squares - 2.0 * gram
        np.fill_diagonal(distances, np.inf)
        nearest = np.sort(distances, axis=1)[:, : len(gram) - self.faulty - 2]
        chosen = np.zeros(len(gram))
        chosen[nearest.sum(1).argmin()] = 1.0
        return chosen
