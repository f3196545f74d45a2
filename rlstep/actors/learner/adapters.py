"""Low-rank adapters: putting them on a model, and refusing those that would not do what is said."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from rlstep.actors.weights.merged import joined_names
from rlstep.config import LoraConfig


def with_adapters(model: Any, lora: LoraConfig, *, classifier: bool = False) -> Any:
    """The model with new adapters (peft), the rest of it frozen.

    Args:
        model: a Hugging Face model; one on no device will do to count or to check.
        classifier: whether it has a new head, which is trained whole.
    """
    import peft

    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # only ever divided by r
            target_modules=list(lora.target_modules),
            task_type=peft.TaskType.TOKEN_CLS if classifier else peft.TaskType.CAUSAL_LM,
        ),
    )


def check_adapters(model: Any, lora: LoraConfig) -> None:
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
    for target in lora.target_modules:
        if reason := _refusal(model, lora, target):
            valid = tuple(t for t in _inner_names(model) if not _refusal(model, lora, t))
            raise ValueError(
                f"model.lora.target_modules names {target!r}, which {reason}; the nearest valid"
                f" value for {type(model).__name__} is {valid}"
            )


def _refusal(model: Any, lora: LoraConfig, target: str) -> str:
    named = {n: m for n, m in model.named_modules() if f".{n}".endswith(f".{target}")}
    experts = "is a part of experts that transformers holds as one tensor"
    if target in joined_names(model):
        return experts
    if not named:
        return "is no layer of it"
    if not all(isinstance(m, nn.Linear | nn.Embedding | Conv1D) for m in named.values()):
        return "is no layer with a matrix"
    if any(m in _tied_ends(model) for m in named.values()):
        return "is one end of its tied embeddings"
    if any(p.dim() > 2 for p in model.parameters()) and _is_moved(model, lora, target, named):
        return experts
    return ""


def _is_moved(model: Any, lora: LoraConfig, target: str, named: Iterable[str]) -> bool:
    """Whether peft puts an adapter of that target elsewhere."""
    from peft.tuners.lora import LoraLayer

    try:
        adapted = with_adapters(deepcopy(model), replace(lora, target_modules=(target,)))
    except ValueError:
        return True
    base = adapted.get_base_model()
    return not all(isinstance(base.get_submodule(name), LoraLayer) for name in named)


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
