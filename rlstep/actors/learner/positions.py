"""Rotary positions that learner and engine compute differently."""

from __future__ import annotations

from typing import Any

_BY_LENGTH = ("dynamic", "longrope")
"""Scalings that depend on how long a sequence is."""


def check_positions(path: str, context: int) -> None:
    """Refuse sequences that are longer than what a model was trained on, where its rotary scaling
    depends on their length.

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
    for kind, original in _scalings(config):
        if kind in _BY_LENGTH and context > original:
            raise ValueError(
                f"generator.context is {context}, but model.path {path!r} scales its positions by"
                f" {kind!r} past {original} tokens, where learner and generator compute different"
                f" logprobs; the largest valid value is {original}"
            )


def _scalings(config: Any) -> list[tuple[str, int]]:
    """Kind and original context of every rotary scaling of a model; there may be one for each kind
    of layer."""
    parameters = getattr(config, "rope_parameters", None)
    if not parameters:
        return []
    several = all(isinstance(value, dict) for value in parameters.values())
    found = []
    for each in parameters.values() if several else [parameters]:
        original = each.get("original_max_position_embeddings") or config.max_position_embeddings
        found.append((each["rope_type"], min(original, config.max_position_embeddings)))
    return found
