"""Targets of adapters that would be left out, or lost, are refused."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from rlstep.actors.learner.adapters import check_adapters
from rlstep.actors.learner.models import check_learner, empty_model, load_model
from rlstep.commands.plan import parameters
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig
from rlstep.losses.step_dpo import StepDpo
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from tests.actors.families import FAMILIES, MIXTURES, make_family

FITS = ("Llama", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Mistral", "Olmo")
"""The default targets."""
LORA = LoraConfig(rank=4)


def refusal(folder: Path, family: str, *targets: str, tied: bool | None = None) -> str:
    model = empty_model(make_family(folder, family, tied=tied))
    with pytest.raises(ValueError) as error:
        check_adapters(model, replace(LORA, target_modules=targets))
    return str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_fits_or_the_message_says_what_does(tmp_path: Path, family: str) -> None:
    path = make_family(tmp_path, family)
    model, lora = empty_model(path), LORA
    if family not in FITS:
        with pytest.raises(ValueError, match="nearest valid value for") as error:
            check_adapters(model, lora)
        valid = ast.literal_eval(str(error.value).rpartition(" is ")[2])
        lora = replace(lora, target_modules=valid)
    check_adapters(model, lora)
    adapted = load_model(LearnerConfig(model=ModelConfig(path=path, lora=lora)), 0)
    for target in lora.target_modules:  # every one of them, in both layers
        found = {name for name, _ in adapted.named_parameters() if f".{target}.lora_A." in name}
        assert len(found) >= 2, target
    count = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert parameters(ModelConfig(path=path, lora=lora)) == (
        sum(p.numel() for p in adapted.parameters()),
        count,
    )


@pytest.mark.parametrize(
    ("family", "targets", "culprit"),
    [
        ("Llama", ("q_proj", "key_proj"), "key_proj"),
        ("Llama", ("proj",), "proj"),
        ("Llama", ("Q_proj",), "Q_proj"),
        ("Llama", ("all-linear",), "all-linear"),
        ("Llama", ("",), ""),
        ("Phi3", ("o_proj", "down_proj", "q_proj"), "q_proj"),
        ("GPT2", ("q_proj",), "q_proj"),
        ("Falcon", ("c_attn",), "c_attn"),
        ("Gemma2", ("qkv_proj",), "qkv_proj"),
        ("Olmo", ("att_proj",), "att_proj"),
    ],
)
def test_a_target_that_names_nothing_is_refused(
    tmp_path: Path, family: str, targets: tuple[str, ...], culprit: str
) -> None:
    assert f"names {culprit!r}, which is no layer" in refusal(tmp_path, family, *targets)


@pytest.mark.parametrize("target", ["self_attn", "mlp", "norm", "layers"])
def test_a_target_without_a_matrix_is_refused(tmp_path: Path, target: str) -> None:
    assert "is no layer with a matrix" in refusal(tmp_path, "Llama", target)


@pytest.mark.parametrize(
    ("family", "end"),
    [
        *[
            (f, e)
            for f in ("Llama", "Qwen2", "Gemma2", "Olmo")
            for e in ("lm_head", "embed_tokens")
        ],
        *[("GPT2", "wte"), ("Falcon", "word_embeddings")],
    ],
)
def test_either_end_of_tied_embeddings_is_refused(tmp_path: Path, family: str, end: str) -> None:
    assert "is one end of its tied" in refusal(tmp_path / "tied", family, end, tied=True)
    untied = empty_model(make_family(tmp_path / "untied", family, tied=False))
    check_adapters(untied, replace(LORA, target_modules=(end,)))


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("target", ["gate", "experts", "w1", "gate_proj", "down_proj", "up_proj"])
def test_experts_and_routers_are_refused(tmp_path: Path, family: str, target: str) -> None:
    assert f"names {target!r}, which is" in refusal(tmp_path, family, target)


def test_a_shared_expert_is_named_in_full(tmp_path: Path) -> None:
    model = empty_model(make_family(tmp_path, "Qwen2Moe"))
    check_adapters(model, replace(LORA, target_modules=("shared_expert.gate_proj",)))
    adapted = replace(LORA, target_modules=("shared_expert.gate_proj",)).put_on(model)
    assert sum("lora_A" in name for name, _ in adapted.named_parameters()) == 2


def test_a_run_is_refused_before_it_starts(tmp_path: Path) -> None:
    path = make_family(tmp_path, "Phi3")
    arithmetic_tokenizer().save_pretrained(path)
    config = LearnerConfig(model=ModelConfig(path=path, lora=LORA))
    with pytest.raises(ValueError, match=r"lora\.target_modules names 'q_proj'"):
        check_learner(config, StepDpo())
    check_learner(replace(config, model=replace(config.model, lora=LoraConfig())), StepDpo())


@pytest.mark.parametrize("family", ["Gemma2"])
def test_an_attention_that_leaves_out_the_soft_cap_is_refused(tmp_path: Path, family: str) -> None:
    path = make_family(tmp_path, family)
    arithmetic_tokenizer().save_pretrained(path)
    model = ModelConfig(path=path)
    with pytest.raises(ValueError, match=r"model\.attention is 'sdpa'.*'eager'"):
        check_learner(LearnerConfig(model=model), StepDpo())
    check_learner(LearnerConfig(model=replace(model, attention="eager")), StepDpo())
