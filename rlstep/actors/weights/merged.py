"""A model's weights out of its adapters, as its checkpoints hold them: what is served, exported and
compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def base_model(module: nn.Module) -> Any:
    """The Hugging Face model, out of its adapters."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module  # type: ignore[operator]


def adapter_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """What a layer with an adapter has beside the frozen one, by name; none of another layer."""
    if not hasattr(layer, "base_layer"):
        return {}
    own = layer.named_parameters()
    return {name: p for name, p in own if not name.startswith("base_layer.")}


def merged_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight in full under its Hugging Face name, adapters merged in, in module order.

    Sums outside the model: merging and unmerging in place would leave rounding errors behind.
    Gathers are collective, so every rank iterates; a tensor is valid until the next is asked for.
    """
    from deepspeed.runtime.zero import GatheredParameters

    base = base_model(module)
    trained = {id(p) for layer in base.modules() for p in adapter_parameters(layer).values()}
    for name, parameter in base.named_parameters():
        if id(parameter) in trained or ".original_module." in name:
            continue
        owner, _, leaf = name.rpartition(".base_layer.")
        layer = base.get_submodule(owner) if leaf == "weight" else None
        parts = [] if layer is None else list(adapter_parameters(layer).values())
        clean = name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
        with GatheredParameters([parameter, *parts]), torch.no_grad():
            value = parameter.detach()
            yield clean, value if layer is None else value + layer.get_delta_weight("default")


def checkpoint_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The merged weights as the model's checkpoints name and cut them (see `keep_conversion`): a
    mixture's experts, which transformers (5) holds as one tensor a layer, are one by one.

    A tied head is no weight of its own and does not appear.
    """
    from transformers.core_model_loading import revert_weight_conversion

    base = base_model(module)
    for name, value in merged_weights(module):
        yield from revert_weight_conversion(base, {name: value}).items()


def keep_conversion(model: Any) -> None:
    """Have a model's weights named as its architecture's checkpoints name them, whichever way its
    own folder does.

    transformers (5) writes a model back under the names that it was read from. A folder with the
    experts of a mixture in one tensor would so be served and exported, and vLLM (0.32) reads it as
    other weights, for some architectures without an error.
    """
    used = getattr(model, "_weight_conversions", None) or []
    if not _converters(used) and _converters(known := _known(model)):
        used = known
    model._weight_conversions = used


def check_conversion(model: Any) -> None:
    """Refuse a model of which no single weight could be sent.

    Args:
        model: one on no device will do.

    Raises:
        ValueError: its checkpoints hold several of its weights in one tensor.
    """
    for change in _converters(_known(model)):
        if len(change.target_patterns) > 1:
            raise ValueError(
                f"{type(model).__name__} cannot be sent to generators: its checkpoints hold"
                f" {', '.join(change.target_patterns)} as one tensor,"
                f" {', '.join(change.source_patterns)}"
            )


def joined_names(model: Any) -> set[str]:
    """Last names of the layers of its checkpoints that a model has as parts of larger tensors."""
    return {
        pattern.removesuffix(".weight").rpartition(".")[2]
        for change in _converters(_known(model))
        for pattern in change.source_patterns
    }


def _known(model: Any) -> list[Any]:
    """The changes from an architecture's checkpoints to transformers' model of it."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import PrefixChange

    known = get_model_conversion_mapping(model, add_legacy=False)
    return [change for change in known if not isinstance(change, PrefixChange)]


def _converters(changes: list[Any]) -> list[Any]:
    """Those that change more than a name."""
    from transformers.core_model_loading import WeightConverter

    return [change for change in changes if isinstance(change, WeightConverter)]
