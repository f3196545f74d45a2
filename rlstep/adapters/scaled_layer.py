"""A layer whose inputs, and outputs, are scaled.

Dimensions: d_in inputs of a layer, d_out outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class ScaledLayer(nn.Module):
    """diag(1 + b) W diag(1 + a) x + bias, of a frozen layer with weight W and bias.

    What is trained are offsets from 1: bfloat16 has numbers near 0 that are far closer together
    than those near 1, of which two neighbours are 0.8 % apart.

    Args:
        base_layer: a Linear with W [d_out, d_in], or transformers' Conv1D, which has [d_in, d_out].
        outputs: whether b, [d_out], is trained beside a, [d_in].
    """

    def __init__(self, base_layer: Any, *, outputs: bool) -> None:
        super().__init__()
        self.base_layer = base_layer
        weight = base_layer.weight
        self.is_transposed = not isinstance(base_layer, nn.Linear)
        d_out, d_in = weight.shape[::-1] if self.is_transposed else weight.shape
        self.inputs = nn.Parameter(weight.new_zeros(d_in))
        self.outputs = nn.Parameter(weight.new_zeros(d_out)) if outputs else None
        self.is_on = True

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_in] to [..., d_out]."""
        if not self.is_on:
            return self.base_layer(x)
        y = self.base_layer(x + x * self.inputs)
        if self.outputs is None:
            return y
        bias = self.base_layer.bias
        return y + (y if bias is None else y - bias) * self.outputs

    def enable_adapters(self, enabled: bool) -> None:
        """Switch the scales off or on, by the name that peft's layers have for it."""
        self.is_on = enabled

    def get_delta_weight(self, adapter: str) -> Tensor:
        """diag(1 + b) W diag(1 + a) - W in the layout of W, at least in float32."""
        weight = self.base_layer.weight
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        rows, columns = self.outputs, self.inputs
        if self.is_transposed:
            rows, columns = columns, rows
        change = torch.zeros_like(weight)
        if columns is not None:
            change = change + weight * columns
        if rows is not None:
            change = change + (weight + change) * rows[:, None]
        return change


def scale_layers(
    model: Any, targets: Sequence[str], *, outputs: bool, fits: Callable[[Any], bool]
) -> None:
    """Freeze a model, and put a `ScaledLayer` in the place of each layer that fits and whose name
    ends in a target.

    Raises:
        ValueError: there is none.
    """
    model.requires_grad_(False)
    named = [
        name
        for name, module in model.named_modules()
        if fits(module) and any(f".{name}".endswith(f".{target}") for target in targets)
    ]
    if not named:
        raise ValueError(f"{type(model).__name__} has no layer of {tuple(targets)}")
    for name in named:
        model.set_submodule(name, ScaledLayer(model.get_submodule(name), outputs=outputs))
