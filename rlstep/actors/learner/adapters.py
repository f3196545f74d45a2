"""Adapters: refusing targets with which they would not do what is said."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from rlstep.actors.weights.merged import base_model, joined_names
from rlstep.adapters.adapter import Adapter


def check_adapters(model: Any, adapter: Adapter) -> None:
    """Refuse targets that peft (0.21) would leave out without a word, or that merging would lose.

    A target names every layer whose name in the model's checkpoints ends in it. Refused is one that
    names none, or no layer with a matrix; one that names the experts of a mixture, which
    transformers (5) holds as one tensor: peft adapts these or a shared expert, never both; and
    either end of a model with tied embeddings: an adapter makes two matrices of what is one when it
    is merged.

    Args:
        model: without adapters; one on no device will do. It is not changed.

    Raises:
        ValueError: names the target and those that the model has.
    """
    for target in adapter.target_modules:
        if reason := _refusal(model, adapter, target):
            valid = tuple(t for t in _inner_names(model) if not _refusal(model, adapter, t))
            raise ValueError(
                f"{adapter.field}.target_modules names {target!r}, which {reason}; the nearest"
                f" valid value for {type(model).__name__} is {valid}"
            )


def _refusal(model: Any, adapter: Adapter, target: str) -> str:
    named = {n: m for n, m in model.named_modules() if f".{n}".endswith(f".{target}")}
    experts = "is a part of experts that transformers holds as one tensor"
    if target in joined_names(model):
        return experts
    if not named:
        return "is no layer of it"
    if not all(map(adapter.fits, named.values())):
        return f"is no layer with a matrix that {type(adapter).__name__} changes"
    if any(m in _tied_ends(model) for m in named.values()):
        return "is one end of its tied embeddings"
    if any(p.dim() > 2 for p in model.parameters()) and _is_moved(model, adapter, target, named):
        return experts
    return ""


def _is_moved(model: Any, adapter: Adapter, target: str, named: Iterable[str]) -> bool:
    """Whether an adapter of that target stands elsewhere, as peft has it."""
    alone: Any = replace(adapter, target_modules=(target,))  # type: ignore[type-var]  # a dataclass
    try:
        base = base_model(alone.put_on(deepcopy(model)))
    except ValueError:
        return True
    return not all(hasattr(base.get_submodule(name), "base_layer") for name in named)


def _tied_ends(model: Any) -> list[nn.Module]:
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    tied = ends[1] is not None and ends[0].weight is ends[1].weight
    return ends if tied else []


def _inner_names(model: Any) -> list[str]:
    """Of the layers between the embeddings and the head, as targets."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return list(
        dict.fromkeys(
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module not in ends
        )
    )
