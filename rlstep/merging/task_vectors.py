"""What mergers share: how much of every task vector, and the angles between them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def check_scale(scale: tuple[float, ...]) -> None:
    """Raises: ValueError: none, or one that is no finite number."""
    if not scale or not all(map(math.isfinite, scale)):
        raise ValueError(
            f"merger.scale is {scale}; it must be one finite number for all, or one for each"
        )


def scales(scale: tuple[float, ...], models: int) -> Floats:
    """One for every model, as a diagonal matrix.

    Raises:
        ValueError: there are neither one nor so many.
    """
    if len(scale) not in (1, models):
        raise ValueError(
            f"merger.scale has {len(scale)} numbers for {models} models; give one for all, or"
            f" {models}"
        )
    return np.diag(np.broadcast_to(np.array(scale, np.float64), models))


def cosines(products: Floats) -> tuple[Floats, Floats]:
    """Cosines [K, K] and norms [K] of vectors whose inner products are given."""
    norms = np.sqrt(np.maximum(np.diag(products), 0.0))
    return products / np.maximum(np.outer(norms, norms), np.finfo(np.float64).tiny), norms
