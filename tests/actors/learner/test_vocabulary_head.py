"""Logprobs straight from the head are those of the model's logits, or the head stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstep.actors.learner import learner_rank
from rlstep.actors.learner.heads import make_head
from rlstep.actors.learner.models import Wanted, load_model, predict_tokens
from rlstep.actors.learner.vocabulary_head import find_vocabulary_head, use_vocabulary_head
from rlstep.adapters.lora import LoraConfig
from rlstep.adapters.scaling import Ssb
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.tensors.batching import pack
from tests.actors.families import make_family
from tests.actors.learner.learner_kit import make_model
from tests.actors.learner.test_learner import CASES, after, config, same

SETTINGS: dict[str, dict[str, Any]] = {
    "Qwen2": {"tied": True},
    "Llama": {},
    "GPT2": {},
    "Phi": {"num_key_value_heads": 4},
    "Granite": {"logits_scaling": 1.0},
    "Mixtral": {},
}
"""Families whose head is a linear map; Phi's has a bias."""
CHANGED: dict[str, dict[str, Any]] = {
    "Gemma2": {},
    "Granite": {"logits_scaling": 8.0},
    "Cohere": {},
}
"""Families that change their head's outputs (transformers 5.19)."""
IDS = [np.arange(2, 2 + n, dtype=np.int32) for n in (18, 13, 4, 2, 1)]


def learner(path: str, **fields: Any) -> LearnerConfig:
    return LearnerConfig(model=ModelConfig(path=path, attention="eager", **fields), threads=1)


def columns_and_gradients(model: Any, settings: LearnerConfig) -> list[Tensor]:
    wanted = Wanted(entropies=True, temperature=0.8)
    out = predict_tokens(model, pack(IDS, [[0], [1, 2], [3, 4]]), make_head(settings), wanted)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    trained = [p for p in model.parameters() if p.requires_grad]
    return [out, *torch.autograd.grad((out * weights).sum(), trained)]


def check_same(path: str, **fields: Any) -> Any:
    settings = learner(path, **fields)
    model: Any = load_model(settings, seed=0)
    expected = columns_and_gradients(model, settings)
    use_vocabulary_head(model)
    for each, other in zip(columns_and_gradients(model, settings), expected, strict=True):
        assert (each - other).norm() <= 1e-5 * other.norm()
    return model


@pytest.mark.parametrize("family", SETTINGS)
def test_values_and_gradients_are_those_of_the_logits(tmp_path: Path, family: str):
    model = check_same(make_family(tmp_path, family, **SETTINGS[family]))
    assert find_vocabulary_head(model) is not None
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    assert (ends[0].weight is ends[1].weight) == model.config.tie_word_embeddings


@pytest.mark.parametrize("family", CHANGED)
def test_a_head_whose_outputs_the_model_changes_stays(tmp_path: Path, family: str):
    model = check_same(make_family(tmp_path, family, **CHANGED[family]))
    assert find_vocabulary_head(model) is None


@pytest.mark.parametrize("adapter", [{"lora": LoraConfig(rank=2)}, {"adapter": Ssb()}])
def test_adapters_of_the_body_are_trained_through_a_frozen_head(tmp_path: Path, adapter):
    model = check_same(make_model(tmp_path), **adapter)
    assert find_vocabulary_head(model) is not None


TARGETS: Any = {"target_modules": ("q_proj", "lm_head")}


@pytest.mark.parametrize(
    "adapter", [{"lora": LoraConfig(rank=2, **TARGETS)}, {"adapter": Ssb(**TARGETS)}]
)
def test_a_head_with_an_adapter_stays(tmp_path: Path, adapter):
    model = check_same(make_model(tmp_path), **adapter)
    assert find_vocabulary_head(model) is None


def test_logits_are_there_for_who_needs_them(tmp_path: Path):
    settings = learner(make_model(tmp_path))
    model: Any = load_model(settings, seed=0)
    batch, seen = pack(IDS, [[0], [1, 2], [3, 4]]), []
    use_vocabulary_head(model)
    head = find_vocabulary_head(model)
    assert head is not None
    head.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape)))
    plain = predict_tokens(model, batch, make_head(settings))
    both = predict_tokens(
        model, batch, make_head(settings), Wanted(divergences=lambda logits: logits[..., 7])
    )
    assert seen == [(3, 18, 1), (3, 18, 48)]
    torch.testing.assert_close(both[..., 0], plain)
    assert model(torch.from_numpy(IDS[0])[None].long()).logits.shape == (1, 18, 48)


SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in [(0, True), (2, False), (3, False)]]


@pytest.mark.parametrize(("stage", "tied"), [(3, True), *SLOW])
def test_an_update_is_that_of_logits(tmp_path: Path, monkeypatch, stage: int, tied: bool):
    settings = config(make_model(tmp_path, tied=tied), zero_stage=stage)
    metrics, weights, _ = after(settings, *CASES[0])
    monkeypatch.setattr(learner_rank, "use_vocabulary_head", lambda model: None)
    expected, plain, _ = after(settings, *CASES[0])
    assert metrics[0]["loss"] == pytest.approx(expected[0]["loss"], abs=1e-6)
    assert metrics[0]["grad_norm"] == pytest.approx(expected[0]["grad_norm"], rel=1e-5)
    same(weights, plain, 1e-6)
