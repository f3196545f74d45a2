"""Rotary scalings that depend on the length: what is refused, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
)

from rlstep.actors.learner.positions import check_positions

LONG = {"short_factor": [1.0] * 16, "long_factor": [4.0] * 16, "rope_theta": 10000.0}


def llama(**rope: Any) -> LlamaConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 16,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
    }
    heads: dict[str, Any] = {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return LlamaConfig(**sizes, **heads, rope_parameters={"rope_theta": 10000.0, **rope})


def phi3(**fields: Any) -> Phi3Config:
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "max_position_embeddings": 128}
    rope = {"rope_type": "longrope", **LONG}
    return Phi3Config(**{**sizes, "rope_parameters": rope, "pad_token_id": 0, **fields})


@pytest.mark.parametrize(
    ("config", "kind", "original"),
    [
        (llama(rope_type="dynamic", factor=2.0), "dynamic", 64),
        (llama(type="dynamic", factor=2.0), "dynamic", 64),
        (llama(rope_type="dynamic", factor=8.0), "dynamic", 64),
        (phi3(original_max_position_embeddings=32), "longrope", 32),
        (phi3(original_max_position_embeddings=96), "longrope", 96),
    ],
)
def test_a_context_past_the_original_is_refused(
    tmp_path: Path, config: Any, kind: str, original: int
) -> None:
    config.save_pretrained(tmp_path)
    check_positions(str(tmp_path), original)
    message = rf"{kind!r} past {original} tokens.*; the largest valid value is {original}"
    with pytest.raises(ValueError, match=rf"generator.context is {original + 1}, but.*{message}"):
        check_positions(str(tmp_path), original + 1)


def by_layers() -> Gemma3TextConfig:
    kinds = {"full_attention": 8.0, "sliding_attention": 1.0}
    scalings = {
        kind: {"rope_type": "linear", "factor": factor, "rope_theta": 10000.0}
        for kind, factor in kinds.items()
    }
    return Gemma3TextConfig(max_position_embeddings=64, rope_parameters=scalings)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (llama(rope_type="default"), 64),
        (llama(rope_type="linear", factor=2.0), 128),
        (llama(rope_type="yarn", factor=2.0, original_max_position_embeddings=32), 64),
        (
            llama(
                rope_type="llama3",
                factor=2.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            ),
            64,
        ),
        (by_layers(), 64),
        (GPT2Config(n_positions=64), 64),
    ],
    ids=["default", "linear", "yarn", "llama3", "by layers", "learned positions"],
)
def test_what_does_not_depend_on_the_length_may_be_as_long_as_the_positions_reach(
    tmp_path: Path, config: Any, most: int
) -> None:
    config.save_pretrained(tmp_path)
    check_positions(str(tmp_path), most)
    with pytest.raises(ValueError, match=rf"{most} positions; the largest valid value is {most}$"):
        check_positions(str(tmp_path), most + 1)


def test_a_model_without_a_number_of_positions_takes_any(tmp_path: Path) -> None:
    BloomConfig().save_pretrained(tmp_path)
    check_positions(str(tmp_path), 1 << 20)


@torch.no_grad()
def test_a_row_past_the_original_context_changes_its_neighbours() -> None:
    """The reason, in transformers: should it be mended, this fails, and the refusal may go."""
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(llama(rope_type="dynamic", factor=2.0)).eval()
    torch.nn.init.normal_(model.model.layers[0].self_attn.q_proj.weight, std=1.0)
    torch.nn.init.normal_(model.model.layers[0].self_attn.k_proj.weight, std=1.0)
    ids = torch.arange(96).remainder(16)[None]
    places = torch.arange(96)[None]

    def logits(length: int) -> torch.Tensor:
        batch = ids[:, :length]
        return model(input_ids=batch, position_ids=places[:, :length], use_cache=False).logits

    assert torch.equal(logits(32), logits(64)[:, :32])
    assert (logits(32) - logits(96)[:, :32]).abs().max() > 1e-2
