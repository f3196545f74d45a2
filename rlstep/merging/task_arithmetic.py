"""Task arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstep.interfaces import Merger
from rlstep.merging.task_vectors import check_scale, scales


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Merger):
    """Task vectors are added to the base: base + sum_i scale_i tau_i (arXiv:2212.04089).

    A negative scale takes away what a model learnt.
    """

    scale: tuple[float, ...] = (0.3,)
    """Of all task vectors, or one for each in the order of the models."""

    def __post_init__(self) -> None:
        check_scale(self.scale)

    def mix(self, products: NDArray[np.float64]) -> NDArray[np.float64]:
        return scales(self.scale, len(products))
