"""A model's weights out of its adapters: what is served, exported and compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def base_model(module: nn.Module) -> Any:
    """The Hugging Face model, out of its adapters."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module  # type: ignore[operator]


def merged_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight in full under its Hugging Face name, adapters merged in, in module order.

    Sums outside the model: merging and unmerging in place would leave rounding errors behind.
    Gathers are collective, so every rank iterates; a tensor is valid until the next is asked for.
    """
    from deepspeed.runtime.zero import GatheredParameters

    base = base_model(module)
    for name, parameter in base.named_parameters():
        if "lora_" in name or ".original_module." in name:
            continue
        owner, _, leaf = name.rpartition(".base_layer.")
        layer = base.get_submodule(owner) if leaf == "weight" else None
        parts = [] if layer is None else [p for n, p in layer.named_parameters() if "lora_" in n]
        clean = name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
        with GatheredParameters([parameter, *parts]), torch.no_grad():
            value = parameter.detach()
            yield clean, value if layer is None else value + layer.get_delta_weight("default")
