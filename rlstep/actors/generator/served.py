"""What generators cannot serve, refused before one is started."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from rlstep.actors.learner.models import empty_model
from rlstep.actors.weights.merged import check_conversion, joined_names
from rlstep.diffusion.canvas import read_canvas
from rlstep.learner_config import LearnerConfig, LoraConfig, PoolingConfig
from rlstep.role_config import CPU_HEAD_SIZES as CPU_HEAD_SIZES
from rlstep.role_config import DiffusionGeneratorConfig, GeneratorConfig
from rlstep.scoring.step_models.prm_text import context_of

CPU_EXPERT_WIDTH = 32
"""Of the CPU engine's experts: it packs hidden sizes by it (vLLM 0.32)."""
NO_ADAPTERS = ("gpt2", "falcon")
"""Models to which vLLM (0.32) applies no LoRA."""
TIED_ONLY = ("gemma2", "gemma3n_text")
"""Models that vLLM (0.32) gives no head of their own: the embeddings are it."""


@singledispatch
def check_served(config: GeneratorConfig, path: str, *, on_cpu: bool) -> None:
    """Refuse a policy that generators of this configuration could not serve, or not be sent.

    Raises:
        ValueError: see `check_policy`; of a diffusion model, a context over its canvas.
    """
    check_policy(path, on_cpu=on_cpu)


@check_served.register
def _(config: DiffusionGeneratorConfig, path: str, *, on_cpu: bool) -> None:
    check_conversion(empty_model(path))
    canvas = read_canvas(path)
    if config.context > canvas.length:
        raise ValueError(
            f"generator.context is {config.context}, and model.path {path!r} has canvases of"
            f" {canvas.length} tokens (canvas_length); that is the largest valid value"
        )


def check_policy(path: str, *, on_cpu: bool) -> None:
    """Refuse a policy that generators could not serve, or not be sent.

    Args:
        path: a folder, or a Hugging Face hub id, that `check_model` has let through.

    Raises:
        ValueError: its head size (see `check_heads`), experts of a width that the CPU engine
            cannot pack, an output head of its own where the engine has none, or weights that
            cannot be sent (see `check_conversion`).
    """
    check_heads(path, on_cpu=on_cpu)
    model = empty_model(path)
    check_conversion(model)
    config = model.config.get_text_config()
    if on_cpu and joined_names(model) and config.hidden_size % CPU_EXPERT_WIDTH:
        near = max(1, round(config.hidden_size / CPU_EXPERT_WIDTH)) * CPU_EXPERT_WIDTH
        raise ValueError(
            f"model.path is {path!r}, a mixture of experts of hidden size {config.hidden_size}: on"
            f" a CPU vLLM 0.32 serves multiples of {CPU_EXPERT_WIDTH}; the nearest valid value is"
            f" {near}"
        )
    if config.model_type in TIED_ONLY and not config.tie_word_embeddings:
        raise ValueError(
            f"model.path is {path!r}, a {config.model_type} model with an output head of its own,"
            " which vLLM 0.32 has no place for; the nearest valid value of tie_word_embeddings in"
            " its config.json is true"
        )


def check_adapters_served(path: str, lora: LoraConfig, *, on_cpu: bool) -> None:
    """Refuse adapters that are to travel alone, and that vLLM would not apply.

    Args:
        path: a folder, or a Hugging Face hub id.
        lora: what `check_adapters` has let through.

    Raises:
        ValueError: the model's architecture has none in vLLM, it is a mixture and the engine on a
            CPU (where that an adapter is applied rightly has not been seen), or one is on either
            end of the model.
    """
    model = empty_model(path)
    merged = "they travel merged; the nearest valid value of generator.transfer is 'rlstep_gloo'"
    kind = model.config.get_text_config().model_type
    if kind in NO_ADAPTERS or (on_cpu and joined_names(model)):
        raise ValueError(
            f"model.path is {path!r}, a {kind} model, to which vLLM 0.32 applies no adapters"
            f"{' on a CPU' if on_cpu and kind not in NO_ADAPTERS else ''}: {merged}"
        )
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    named = [name for name, module in model.named_modules() if module in ends]
    for target in lora.target_modules:
        if any(f".{name}".endswith(f".{target}") for name in named):
            raise ValueError(
                f"model.lora.target_modules names {target!r}, an end of the model, where vLLM 0.32"
                f" applies no adapters: {merged}"
            )


def check_heads(path: str, *, on_cpu: bool) -> None:
    """Refuse a model that the CPU engine cannot serve.

    Raises:
        ValueError: the size of its attention heads.
    """
    from transformers import AutoConfig

    whole: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
    size = head_size(whole.get_text_config())
    if on_cpu and size and size not in CPU_HEAD_SIZES:
        near = min(CPU_HEAD_SIZES, key=lambda valid: abs(valid - size))
        raise ValueError(
            f"model.path is {path!r}, whose attention heads have size {size}: on a CPU vLLM 0.32"
            f" serves {', '.join(map(str, CPU_HEAD_SIZES))}; the nearest valid value is {near}"
        )


def check_engine(config: LearnerConfig, engine: PoolingConfig, longest: int) -> None:
    """Refuse a language model's engine that has no room for a whole rollout and the token that it
    must write behind it (a head's engine has none to write, and what is too long is a Failure).

    Args:
        longest: most tokens of a rollout with its prompt, generator.context.

    Raises:
        ValueError: names the field, and the nearest valid value.
    """
    if config.head != "language_model":
        return
    path = config.model.path
    if engine.context <= longest:
        raise ValueError(
            f"engine.context is {engine.context}, and a teacher reads whole rollouts of up to"
            f" generator.context {longest} tokens, and writes one; the smallest valid value is"
            f" {longest + 1}"
        )
    if (positions := context_of(path)) <= longest:
        raise ValueError(
            f"generator.context is {longest}, and model.path {path!r} has {positions} positions, of"
            f" which its engine needs one more; the largest valid value is {positions - 1}"
        )


def head_size(config: Any) -> int:
    """Numbers of one attention head's keys; 0 where the configuration does not say it."""
    if getattr(config, "kv_lora_rank", None):  # latent attention: the engine joins heads
        return 0
    if size := getattr(config, "head_dim", None):
        return size
    heads = getattr(config, "num_attention_heads", 0)
    return config.hidden_size // heads if heads else 0
