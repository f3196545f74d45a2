"""Adaptive weight disentanglement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstep.checks import at_least, positive
from rlstep.interfaces import Merger
from rlstep.merging.task_vectors import check_scale, cosines, scales

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Awd(Merger):
    """Task arithmetic after one vector is taken from all, so that what is left interferes less
    (arXiv:2411.18729).

    With task vectors tau_1 .. tau_K, a redundant vector delta of the same size minimises

        sum_{i != j} |cos(tau_i - delta, tau_j - delta)| / (K (K - 1))  +  alpha ||delta||_2

    by gradient steps from 0, and the merge is base + sum_i scale_i (tau_i - delta). The gradient is
    a sum of task vectors, and so is delta: K numbers carry it, exactly, whatever the size of the
    model. Lengths are in the units of the weights, as alpha and the learning rate are. The best
    delta on the way is taken, which may be 0: it is for one model, and for orthogonal ones.
    """

    scale: tuple[float, ...] = (0.3,)
    """Of all task vectors less delta, or one for each in the order of the models."""
    alpha: float = 0.1
    """What a unit of delta's length costs beside the mean |cosine|."""
    learning_rate: float = 0.01
    """Of a gradient step."""
    steps: int = 300
    """Gradient steps."""

    def __post_init__(self) -> None:
        check_scale(self.scale)
        at_least("merger.alpha", self.alpha, 0.0)
        positive("merger.learning_rate", self.learning_rate)
        at_least("merger.steps", self.steps, 0)

    def mix(self, products: Floats) -> Floats:
        models = len(products)
        return scales(self.scale, models) @ (np.eye(models) - self.redundant(products))

    def redundant(self, products: Floats) -> Floats:
        """delta in terms of the task vectors, [K].

        Args:
            products: [K, K], the task vectors' inner products.
        """
        best = delta = np.zeros(len(products))
        lowest, slope = self._objective(delta, products)
        for _ in range(self.steps):
            delta = delta - self.learning_rate * slope
            value, slope = self._objective(delta, products)
            if value < lowest:
                best, lowest = delta, value
        return best

    def _objective(self, delta: Floats, products: Floats) -> tuple[float, Floats]:
        """Its value, and its gradient in terms of the task vectors, [K].

        The length of delta has no gradient at 0, nor |cos| at a right angle: 0 stands there.
        """
        models = len(products)
        length = np.sqrt(max(delta @ products @ delta, 0.0))
        towards_zero = self.alpha * delta / length if length > 0.0 else np.zeros(models)
        if models == 1:
            return float(self.alpha * length), towards_zero
        left = np.eye(models) - delta  # row i: tau_i - delta
        cosine, norms = cosines(left @ products @ left.T)
        others = ~np.eye(models, dtype=bool)
        pairs = models * (models - 1)
        # Of |cos_ij| and |cos_ji| together, the part along row i.
        along = np.sign(cosine) * (cosine / norms[:, None] ** 2 - 1.0 / np.outer(norms, norms))
        slope = 2.0 / pairs * (along * others).sum(1) @ left
        value = np.abs(cosine[others]).sum() / pairs + self.alpha * length
        return float(value), slope + towards_zero
