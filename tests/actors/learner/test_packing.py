"""Packed sequences are read as if each were alone, or packing is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstep.actors.learner.heads import make_head
from rlstep.actors.learner.models import check_packing, load_model, predict_tokens
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.tensors.batching import PackedBatch, pack
from tests.actors.families import FAMILIES, make_family
from tests.actors.learner.learner_kit import make_architecture

LENGTHS = (18, 13, 4, 2, 1)
LAYOUTS = ([[0], [2, 1], [3, 4]], [[0, 2, 1, 3, 4]])
"""Rows about as long as the longest sequence, and one row as flash attention has it."""
ORDER = (0, 2, 1, 3, 4)
NARROW: dict[str, Any] = {"sliding_window": 4}
"""Shorter than what is packed."""
SETTINGS: dict[str, dict[str, Any]] = {
    **{family: {} for family in FAMILIES},
    **dict.fromkeys(("Gemma2", "Gemma3", "Mistral", "Mixtral", "Phi3"), NARROW),
    "Gemma": {"head_dim": 32},
    "Glm4": {"head_dim": 32},
    **{family: {} for family in ("Cohere", "Granite", "GPTNeoX", "Olmo2", "Phi", "SmolLM3")},
    **dict.fromkeys(("Cohere2", "Olmo3", "Starcoder2"), NARROW),
    "Olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "GPTJ": {"rotary_dim": 16},
    "GPTBigCode": {},
    "StableLm": {},
    "Bloom": {},
    "OPT": {"word_embed_proj_dim": 128, "ffn_dim": 128},
    "Lfm2": {"layer_types": ["conv", "full_attention"]},
    "Qwen3Next": {
        "head_dim": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
        **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 32),
    },
}
SEEN_THROUGH = ("Falcon", "GPTBigCode", "Bloom", "OPT", "Lfm2", "Qwen3Next")
"""Families whose sequences see the one before them (transformers 5.19)."""


def config(path: str, attention: Any = "eager", **changes: Any) -> LearnerConfig:
    model = ModelConfig(path=path, attention=attention)
    return LearnerConfig(model=model, threads=1, token_budget=64, **changes)


def read(model: Any, settings: LearnerConfig, *batches: PackedBatch) -> list[Tensor]:
    """A row of logprobs for every sequence, padded."""
    with torch.no_grad():
        return [r for b in batches for r in predict_tokens(model, b, make_head(settings))]


CASES = [
    *[(family, "sdpa") for family in FAMILIES],
    *[pytest.param(family, "eager", marks=pytest.mark.slow) for family in SETTINGS],
]


@pytest.mark.parametrize(("family", "attention"), CASES)
def test_what_is_packed_is_read_as_if_alone_or_refused(
    tmp_path: Path, family: str, attention: str
) -> None:
    settings = config(make_family(tmp_path, family, **SETTINGS[family]), attention)
    model = load_model(settings, seed=0)
    ids = [np.arange(2, 2 + length, dtype=np.int32) for length in LENGTHS]
    alone = read(model, settings, *(pack([row], [[0]]) for row in ids))
    packed = [read(model, settings, pack(ids, rows)) for rows in LAYOUTS]
    differences = [
        (row[: len(ids[i])] - alone[i]).abs().max()
        for rows in packed
        for row, i in zip(rows, ORDER, strict=True)
    ]
    if family in SEEN_THROUGH:
        assert max(differences) > 1e-2  # else the refusal is one too many
        message = r"learner\.packing is True, but in \w+ a sequence sees"
        with pytest.raises(ValueError, match=message):
            check_packing(model, pack)
        return
    check_packing(model, pack)
    assert max(differences) <= 1e-5
    assert all(row[0] == 0.0 for rows in packed for row in rows)
    batch = pack(ids, LAYOUTS[1])  # places that rise all along: each sees the one before it
    leaking = replace(batch, places=torch.arange(batch.token_ids.shape[1])[None])
    assert (read(model, settings, leaking)[2][1:13] - alone[1][1:]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["Mamba", "OPT", "Bloom", "Lfm2"])
def test_a_model_that_refuses_packing_reads_them_apart(tmp_path: Path, kind: str) -> None:
    settings = config(make_architecture(tmp_path, kind))
    model = load_model(settings, seed=0)
    with pytest.raises(ValueError, match=r"learner\.packing is True, but in \w+ a sequence sees"):
        check_packing(model, pack)
    batch = pack([np.arange(2, 7), np.arange(2, 4)], [[0], [1]])
    assert predict_tokens(model, batch, make_head(settings)).shape == (2, 5)


@pytest.mark.parametrize("head", ["language_model", "token_classification"])
def test_a_head_at_zero_hides_nothing_from_the_check(tmp_path: Path, head: Any) -> None:
    path = make_architecture(tmp_path, "Qwen2")
    check_packing(load_model(config(path, "sdpa", head=head), 0), pack)
