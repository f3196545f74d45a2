"""Positions that a model does not have, or that learner and engine compute differently."""

from __future__ import annotations

from typing import Any

BY_LENGTH = ("dynamic", "longrope")
"""Scalings that depend on how long a sequence is."""


def check_positions(path: str, context: int) -> None:
    """Refuse sequences that are longer than a model's positions, or than what it was trained on,
    where its rotary scaling depends on their length.

    vLLM (0.32) starts no engine for more than a model's positions, which linear scaling stretches
    (not Gemma 3's, whose number has it already), and yarn and llama3 do not.

    Past the original context transformers (5.19) scales by the longest row of a batch, so that a
    row's logprobs change with its neighbours, and stay changed after a longer one; vLLM (0.32)
    scales nothing with 'dynamic', and with 'longrope' every sequence by its own longest length.
    Inside the original context the three agree. Linear, yarn and llama3 scaling do not depend on
    the length.

    Args:
        path: a model's folder or hub id.
        context: most tokens of a sequence, and of an engine.

    Raises:
        ValueError: names the largest valid value.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config()
    for each in scalings(config):
        original = each.get("original_max_position_embeddings") or config.max_position_embeddings
        kind, original = each["rope_type"], min(original, config.max_position_embeddings)
        if kind in BY_LENGTH and context > original:
            raise ValueError(
                f"generator.context is {context}, but model.path {path!r} scales its positions by"
                f" {kind!r} past {original} tokens, where learner and generator compute different"
                f" logprobs; the largest valid value is {original}"
            )
    most = _positions(config)
    if most and context > most:
        raise ValueError(
            f"generator.context is {context}, but model.path {path!r} has {most} positions; the"
            f" largest valid value is {most}"
        )


def scalings(config: Any) -> list[dict[str, Any]]:
    """Every rotary scaling of a model; there may be one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    several = all(isinstance(value, dict) for value in parameters.values())
    return [p for p in (parameters.values() if several else [parameters]) if p]


def _positions(config: Any) -> int | None:
    """How many tokens a sequence may have; None where nothing says so."""
    most = getattr(config, "max_position_embeddings", None)
    linear = [p["factor"] for p in scalings(config) if p["rope_type"] == "linear"]
    if most and linear and "gemma3" not in config.model_type:
        return int(most * linear[-1])
    return most
