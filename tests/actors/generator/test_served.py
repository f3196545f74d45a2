"""What no engine serves is refused before one starts."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlstep.actors.generator.served import (
    CPU_EXPERT_WIDTH,
    CPU_HEAD_SIZES,
    NO_ADAPTERS,
    TIED_ONLY,
    check_adapters_served,
    check_engine,
    check_heads,
    check_policy,
    head_size,
)
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig, PoolingConfig
from rlstep.role_config import SERVED_RANKS
from tests.actors.families import FAMILIES, MIXTURES, make_family


def vllm_source(file: str) -> str:
    """Of the installed version; importing it takes seconds."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / file).read_text()


def test_the_head_sizes_are_those_of_the_installed_engine() -> None:
    [found] = [
        ast.literal_eval(node.body[-1].value)
        for node in ast.walk(ast.parse(vllm_source("v1/attention/backends/cpu_attn.py")))
        if isinstance(node, ast.FunctionDef) and node.name == "get_supported_head_sizes"
        if isinstance(node.body[-1], ast.Return) and node.body[-1].value is not None
    ]
    assert tuple(found) == CPU_HEAD_SIZES


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3", "gemma3n", "llama", "qwen3"])
def test_the_models_without_a_head_are_those_of_the_installed_engine(family: str) -> None:
    without = "logits_processor(self.model.embed_tokens" in vllm_source(
        f"model_executor/models/{family}.py"
    )
    assert without is (family in TIED_ONLY or f"{family}_text" in TIED_ONLY)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_served_of_every_family(tmp_path: Path, family: str, tied: bool) -> None:
    path = make_family(tmp_path, family, tied=tied)
    if family == "Gemma2" and not tied:
        with pytest.raises(ValueError, match=r"output head of its own.*tie_word_embeddings"):
            check_policy(path, on_cpu=True)
    else:
        check_policy(path, on_cpu=True)


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize(("hidden", "near"), [(80, 64), (144, 128), (120, 128)])
def test_experts_that_the_cpu_engine_cannot_pack_are_refused(
    tmp_path: Path, family: str, hidden: int, near: int
) -> None:
    heads: dict[str, Any] = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32}
    path = make_family(tmp_path, family, hidden_size=hidden, **heads)
    message = rf"hidden size {hidden}: on a CPU.* of 32; the nearest valid value is {near}$"
    with pytest.raises(ValueError, match=message):
        check_policy(path, on_cpu=True)
    check_policy(path, on_cpu=False)


def test_the_width_of_experts_is_that_of_the_installed_engine() -> None:
    kernels = vllm_source("model_executor/layers/fused_moe/experts/cpu_moe.py")
    portable = kernels.partition("class CPUUnquantizedExperts")[2].partition("\nclass ")[0]
    assert f"    output_alignment = {CPU_EXPERT_WIDTH}\n" in portable


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Phi3", "GPT2", "Falcon", "Olmo"])
@pytest.mark.parametrize(("heads", "size"), [(8, 16), (16, 8)])
def test_a_head_size_that_the_cpu_engine_lacks_is_refused(
    tmp_path: Path, family: str, heads: int, size: int
) -> None:
    path = make_family(tmp_path, family, num_attention_heads=heads)
    with pytest.raises(ValueError, match=rf"have size {size}:.*nearest valid value is 32$"):
        check_heads(path, on_cpu=True)
    check_heads(path, on_cpu=False)
    check_heads(make_family(tmp_path, family, num_attention_heads=2), on_cpu=True)  # of size 64


@pytest.mark.parametrize("family", ["Qwen3", "Gemma3", "Mistral"])
def test_a_head_size_of_its_own_counts(tmp_path: Path, family: str) -> None:
    path = make_family(tmp_path, family, head_dim=48)
    with pytest.raises(ValueError, match="have size 48"):
        check_heads(path, on_cpu=True)
    check_heads(path, on_cpu=False)


@pytest.mark.parametrize("family", ["gpt2", "falcon", "llama", "gemma2", "qwen3", "mixtral"])
def test_the_models_without_adapters_are_those_of_the_installed_engine(family: str) -> None:
    lora = "SupportsLoRA" in vllm_source(f"model_executor/models/{family}.py")
    assert lora is (family not in NO_ADAPTERS)


def test_the_ranks_are_those_of_the_installed_engine() -> None:
    assert f"MaxLoRARanks = Literal{list(SERVED_RANKS)}" in vllm_source("config/lora.py")


@pytest.mark.parametrize("family", ["GPT2", "Falcon"])
def test_adapters_that_would_not_be_applied_are_refused(tmp_path: Path, family: str) -> None:
    message = rf"a {family.lower()} model, to which .* no adapters.*generator\.transfer is 'rlst"
    with pytest.raises(ValueError, match=message):
        check_adapters_served(make_family(tmp_path, family), LoraConfig(rank=4), on_cpu=False)


def test_adapters_on_an_end_of_the_model_do_not_travel_alone(tmp_path: Path) -> None:
    path = make_family(tmp_path, "Llama", tied=False)
    check_adapters_served(path, LoraConfig(rank=4), on_cpu=True)
    for end in ("lm_head", "embed_tokens"):
        with pytest.raises(ValueError, match=f"names '{end}', an end of the model, where vLLM"):
            lora = LoraConfig(rank=4, target_modules=("q_proj", end))
            check_adapters_served(path, lora, on_cpu=False)


@pytest.mark.parametrize("family", MIXTURES)
def test_a_mixtures_adapters_are_not_applied_on_a_cpu(tmp_path: Path, family: str) -> None:
    path, lora = make_family(tmp_path, family), LoraConfig(rank=4, target_modules=("q_proj",))
    check_adapters_served(path, lora, on_cpu=False)
    with pytest.raises(ValueError, match=r"applies no adapters on a CPU: they travel merged"):
        check_adapters_served(path, lora, on_cpu=True)


def test_latent_and_no_attention_say_nothing_of_heads() -> None:
    assert head_size(SimpleNamespace(kv_lora_rank=512, head_dim=24)) == 0
    assert head_size(SimpleNamespace(hidden_size=128)) == 0


def test_a_teachers_engine_needs_room_for_a_token_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "max_position_embeddings": 129, "vocab_size": 8}'
    )
    teacher = LearnerConfig(model=ModelConfig(path=str(tmp_path)))
    check_engine(teacher, PoolingConfig(context=129), 128)
    with pytest.raises(
        ValueError, match=r"engine\.context is 128, .* the smallest valid value is 129"
    ):
        check_engine(teacher, PoolingConfig(context=128), 128)
    with pytest.raises(ValueError, match=r"generator\.context is 129, .* 129 positions, .* is 128"):
        check_engine(teacher, PoolingConfig(context=4096), 129)
    prm = LearnerConfig(model=ModelConfig(path=str(tmp_path)), head="two_token")
    check_engine(prm, PoolingConfig(context=64), 128)  # what is too long there is a Failure
