"""Plain averaging of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstep.interfaces import Merger


@dataclass(frozen=True, kw_only=True)
class Average(Merger):
    """The mean of the models' weights, as in model soups (arXiv:2203.05482), all of equal weight.

    The base cancels out: it is base + sum_i tau_i / K.
    """

    def mix(self, products: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.eye(len(products)) / len(products)
