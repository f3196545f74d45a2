"""How a model's weights W and their changes dW are distributed, layer by layer.

Trained weights, and what training adds to them, are close to Gaussian. Shown for each layer: the
standard deviation, the excess kurtosis (0 of a Gaussian), and the share of entries more than three
standard deviations from the mean (0.0027 of a Gaussian). Of dW also the share that is exactly 0:
bfloat16 has 8 bits of precision, so that updates of 5e-7 are lost on most weights.

Every matrix is standardised for itself, so that a layer whose matrices have different scales is not
taken for one with heavy tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OUTLIER = 3.0
"""Standard deviations from the mean, beyond which an entry is an outlier."""
CHUNK, DEVICE_CHUNK = 1 << 16, 1 << 24
"""Entries that are looked at together, on a CPU what its cache holds as float64."""

COLUMNS = (
    "entries",
    *("squares", "fourths", "spread", "outliers"),
    *("change_squares", "change_fourths", "change_spread", "change_outliers"),
    "unmoved",
)
"""What is known of a matrix, of W and of dW: the sums of squares and of standardised fourth powers
of the entries less their mean, how many entries are standardised (0 where all are equal), how many
are outliers; and how many entries of dW are 0. They add up over matrices."""


def matrix_sums(now: Tensor, before: Tensor) -> Tensor:
    """float64 [COLUMNS] of one matrix: what adds up, exact but for rounding in float64.

    Two passes, since sums of plain powers would cancel: the mean first, then powers of what is
    left.

    Args:
        now: W, in the dtype that it is held in.
        before: W as it was, of the same shape and dtype.
    """
    new, old = now.detach().reshape(-1), before.reshape(-1)
    size = CHUNK if new.device.type == "cpu" else DEVICE_CHUNK

    def weights() -> Iterator[Tensor]:
        return (part.to(torch.float64, copy=True) for part in new.split(size))

    def changes() -> Iterator[Tensor]:
        both = zip(new.split(size), old.split(size), strict=True)
        return (a.double() - b.double() for a, b in both)

    unmoved = sum((a == b).sum() for a, b in zip(new.split(size), old.split(size), strict=True))
    both = (_central_sums(parts, new.numel()) for parts in (weights, changes))
    return torch.tensor([new.numel(), *chain(*both), unmoved], dtype=torch.float64)


def _central_sums(
    parts: Callable[[], Iterator[Tensor]], number: int
) -> tuple[float, float, float, float]:
    """'squares', 'fourths', 'spread' and 'outliers' of the entries that the parts hold together."""
    mean = float(sum(part.sum() for part in parts())) / max(number, 1)
    squares = fourths = 0.0
    for part in parts():
        square = part.sub_(mean).square_()
        squares += square.sum()
        fourths += square.square_().sum()
    squares, fourths = float(squares), float(fourths)
    variance = squares / max(number, 1)
    if variance <= (1e-12 * mean) ** 2:  # all equal: what is left is the mean's own rounding
        return 0.0, 0.0, 0.0, 0.0
    limit = OUTLIER * variance**0.5
    outliers = float(sum((part.sub_(mean).abs_() > limit).sum() for part in parts()))
    return squares, fourths / variance**2, number, outliers


def layer_of(name: str) -> str:
    """'3' for 'model.layers.3.mlp.up_proj.weight'; outside of layers that have a number the
    module's own name: 'embed_tokens', 'lm_head'."""
    numbers = [part for part in name.split(".") if part.isdigit()]
    return numbers[0] if numbers else name.removesuffix(".weight").rpartition(".")[2]


def spread_figures(matrices: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """The figures of every layer, and of all numbered layers together.

    Those together leave out the embeddings and the head: the rows of tokens that never occur have
    no gradient, and do not move in a healthy run either.

    Args:
        matrices: [COLUMNS] of every matrix by its name, as `matrix_sums` makes them.

    Returns:
        'weights/<figure>/<layer>' and, of all together, 'weights/<figure>': 'std', 'kurtosis',
        'outliers', the same of dW under 'change_...', and 'unmoved', the share of dW that is 0.
        Where all entries are equal there is no kurtosis.
    """
    layers: dict[str, NDArray[np.float64]] = {}
    for name, sums in matrices.items():
        layer = layer_of(name)
        layers[layer] = layers.get(layer, 0.0) + sums
    numbered = [sums for layer, sums in layers.items() if layer.isdigit()]
    found = _figures(np.sum(numbered or list(layers.values()), axis=0), "") if layers else {}
    for layer, sums in layers.items():
        found |= _figures(sums, f"/{layer}")
    return found


def _figures(sums: NDArray[np.float64], suffix: str) -> dict[str, float]:
    of = dict(zip(COLUMNS, sums.tolist(), strict=True))
    entries = of["entries"]
    found = {"unmoved": of["unmoved"] / entries}
    for kind in ("", "change_"):
        found[f"{kind}std"] = (of[f"{kind}squares"] / entries) ** 0.5
        found[f"{kind}outliers"] = of[f"{kind}outliers"] / entries
        if of[f"{kind}spread"]:
            found[f"{kind}kurtosis"] = of[f"{kind}fourths"] / of[f"{kind}spread"] - 3.0
    return {f"weights/{name}{suffix}": value for name, value in found.items()}
