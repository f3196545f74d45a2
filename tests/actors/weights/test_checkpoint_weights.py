"""Weights go under the names that the model's own checkpoints have, whatever the family."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rlstep.actors.learner.models import load_model, write_folder
from rlstep.actors.weights.merged import check_conversion, merged_weights
from rlstep.actors.weights.weight_source import LearnerWeights
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig
from tests.actors.families import FAMILIES, MIXTURES, make_family

IDS = torch.arange(2, 22)[None]
TARGETS = {
    "Phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "GPT2": ("c_attn", "c_proj", "c_fc"),
    "Falcon": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    **dict.fromkeys(MIXTURES, ("q_proj", "k_proj", "v_proj", "o_proj")),
}
"""Of adapters, where they are not the default."""


def lora_of(family: str) -> LoraConfig:
    return LoraConfig(rank=4, target_modules=TARGETS.get(family, LoraConfig().target_modules))


def load(path: str, **fields: Any) -> Any:
    return load_model(LearnerConfig(model=ModelConfig(path=path, **fields)), 0).eval()


def moved(model: Any) -> Any:
    """With every weight that is trained somewhere else."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def logprobs(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits.float().log_softmax(-1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_sent_is_what_the_folder_holds(tmp_path: Path, family: str, tied: bool) -> None:
    path = make_family(tmp_path, family, tied=tied)
    source = LearnerWeights(load(path), torch.float32)
    sent, held = dict(source), load_file(tmp_path / "model.safetensors")
    assert sent.keys() == held.keys()
    assert ("lm_head.weight" in sent) is not tied  # a tied head is nothing of its own
    for name, value in held.items():
        assert torch.equal(sent[name], value), name
    assert [(m.name, m.shape) for m in source.metadata()] == [
        (name, tuple(value.shape)) for name, value in sent.items()
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_sent_as_it_is_trained(tmp_path: Path, family: str) -> None:
    path = make_family(tmp_path, family, dtype="bfloat16")
    sent = dict(LearnerWeights(load(path, dtype="bfloat16"), torch.bfloat16))
    held = load_file(tmp_path / "model.safetensors")
    assert sent.keys() == held.keys()
    assert all(torch.equal(sent[name], held[name]) for name in held)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_are_in_what_is_exported_and_sent(tmp_path: Path, family: str, tied: bool) -> None:
    path = make_family(tmp_path / "start", family, tied=tied)
    start = logprobs(load(path))
    model = moved(load(path, lora=lora_of(family)))
    now = logprobs(model)
    assert (now - start).abs().max() > 1e-2
    make_tokenizer(path)
    write_folder(model, dict(merged_weights(model)), path, str(tmp_path / "end"))
    assert torch.allclose(logprobs(load(str(tmp_path / "end"))), now, atol=2e-5)
    sent, held = (
        dict(LearnerWeights(model, torch.float32)),
        load_file(tmp_path / "end" / "model.safetensors"),
    )
    assert sent.keys() == held.keys()
    assert all(torch.equal(sent[name], held[name]) for name in held)


def make_tokenizer(path: str) -> None:
    from rlstep.tasks.arithmetic import arithmetic_tokenizer

    arithmetic_tokenizer().save_pretrained(path)


@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_adapters_on_ends_that_are_not_tied_are_merged(tmp_path: Path, end: str) -> None:
    path = make_family(tmp_path / "start", "Llama", tied=False)
    model = moved(load(path, lora=LoraConfig(rank=4, target_modules=(end,))))
    make_tokenizer(path)
    write_folder(model, dict(merged_weights(model)), path, str(tmp_path / "end"))
    assert torch.allclose(logprobs(load(str(tmp_path / "end"))), logprobs(model), atol=2e-5)


@pytest.mark.parametrize("family", MIXTURES)
def test_a_folder_with_joined_experts_is_sent_and_exported_as_any_other(
    tmp_path: Path, family: str
) -> None:
    path = make_family(tmp_path / "plain", family)
    joined = tmp_path / "joined"
    load(path).save_pretrained(joined, save_original_format=False)
    held = load_file(tmp_path / "plain" / "model.safetensors")
    assert load_file(joined / "model.safetensors").keys() != held.keys()
    model = load(str(joined))
    sent = dict(LearnerWeights(model, torch.float32))
    assert sent.keys() == held.keys()
    assert all(torch.equal(sent[name], held[name]) for name in held)
    make_tokenizer(path)
    write_folder(model, dict(merged_weights(model)), path, str(tmp_path / "end"))
    assert load_file(tmp_path / "end" / "model.safetensors").keys() == held.keys()


def test_weights_that_cannot_be_sent_one_by_one_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlstep.actors.weights import merged

    model = load(make_family(tmp_path, "Llama"))
    check_conversion(model)
    change = SimpleNamespace(
        source_patterns=["qkv.weight"], target_patterns=["q.weight", "k.weight"]
    )
    monkeypatch.setattr(merged, "_known", lambda _: [change])
    monkeypatch.setattr(merged, "_converters", lambda changes: changes)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM cannot be sent.*q\.weight, k\.weight"):
        check_conversion(model)
