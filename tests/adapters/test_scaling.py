"""SSL and SSB: by hand, against peft's IA3, and on every family."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlstep.actors.learner.adapters import check_adapters
from rlstep.actors.learner.models import empty_model, load_model
from rlstep.actors.weights.merged import adapter_parameters, merged_weights
from rlstep.adapters.adapter import Adapter
from rlstep.adapters.scaled_layer import ScaledLayer
from rlstep.adapters.scaling import Ssb, Ssl
from rlstep.commands.plan import parameters
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig
from tests.actors.families import FAMILIES, MIXTURES, make_family
from tests.actors.weights.test_checkpoint_weights import IDS, TARGETS, logprobs

BOTH = [Ssl(), Ssb()]
NAMES = ["ssl", "ssb"]


def filled(layer: Any, weight: list[list[float]], bias: list[float]) -> Any:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def moved(model: Any) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("outputs", "expected"), [(False, [13.0, 28.0]), (True, [19.0, 28.0])])
def test_a_layer_by_hand(transposed: bool, outputs: bool, expected: list[float]) -> None:
    """W = [[1, 2], [3, 4]], bias [10, 20], x = [1, 1], s_in = [2, 1/2], s_out = [3, 1].

    W (s_in x) = [1*2 + 2/2, 3*2 + 4/2] = [3, 8], with the bias [13, 28]; s_out of it before the
    bias [9, 8], with it [19, 28].
    """
    if transposed:
        base = filled(Conv1D(2, 2), [[1, 3], [2, 4]], [10, 20])
    else:
        base = filled(nn.Linear(2, 2), [[1, 2], [3, 4]], [10, 20])
    layer = ScaledLayer(base, outputs=outputs)
    with torch.no_grad():
        layer.inputs.copy_(torch.tensor([1.0, -0.5]))
        if layer.outputs is not None:
            layer.outputs.copy_(torch.tensor([2.0, 0.0]))
    assert layer(torch.ones(2)).tolist() == expected
    # SSB merged: [[1*3*2, 2*3/2], [3*2, 4/2]] = [[6, 3], [6, 2]]; SSL: [[2, 1], [6, 2]]
    merged = base.weight + layer.get_delta_weight("default")
    rows = [[6.0, 3.0], [6.0, 2.0]] if outputs else [[2.0, 1.0], [6.0, 2.0]]
    assert (merged.T if transposed else merged).tolist() == rows
    layer.enable_adapters(False)
    assert layer(torch.ones(2)).tolist() == [13.0, 27.0]  # W x + bias = [3, 7] + [10, 20]


@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    outputs=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_merged_is_unmerged(sizes: tuple[int, int], outputs: bool, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    base = nn.Linear(*sizes, bias=bias).double()
    layer = moved(ScaledLayer(base, outputs=outputs))
    x = torch.randn(3, sizes[0], dtype=torch.float64)
    merged = base.weight + layer.get_delta_weight("default")
    assert torch.allclose(layer(x), nn.functional.linear(x, merged, base.bias), atol=1e-12)
    trained = adapter_parameters(layer)
    assert sum(p.numel() for p in trained.values()) == sizes[0] + outputs * sizes[1]


def test_in_bfloat16_a_small_scale_is_not_lost_between_two_updates() -> None:
    layer = ScaledLayer(nn.Linear(1, 1).bfloat16(), outputs=False)
    with torch.no_grad():  # 1 + 1e-4 is 1 in bfloat16, and 100 such updates would be none
        for _ in range(100):
            layer.inputs.add_(1e-4)
    assert layer.inputs.item() == pytest.approx(1e-2, rel=0.1)


def adapted(path: str, adapter: Adapter) -> Any:
    return load_model(LearnerConfig(model=ModelConfig(path=path, adapter=adapter)), 0).eval()


IN_BRIEF = ("Llama", "GPT2", "Gemma2")
"""The usual, one whose weights lie the other way round, and one with its ends tied."""


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=() if f in IN_BRIEF else pytest.mark.slow) for f in FAMILIES],
)
def test_of_every_family(tmp_path: Path, family: str) -> None:
    """Begins as the model, is one again when it is off, and merges into one of the same logits."""
    path = make_family(tmp_path, family)
    adapter = Ssb(target_modules=TARGETS.get(family, Ssb().target_modules))
    plain = load_model(LearnerConfig(model=ModelConfig(path=path)), 0).eval()
    layers: dict[str, Any] = {
        n: m
        for n, m in plain.named_modules()
        if any(f".{n}".endswith(f".{target}") for target in adapter.target_modules)
    }
    check_adapters(plain, adapter)
    model = adapted(path, adapter)
    assert torch.equal(logprobs(model), logprobs(plain))
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count == sum(sum(m.weight.shape) for m in layers.values()) > 0
    assert parameters(ModelConfig(path=path, adapter=adapter)) == (
        sum(p.numel() for p in model.parameters()),
        count,
    )
    single = family in MIXTURES  # whose experts torch multiplies in no float64
    if not single:
        plain, model = plain.double(), model.double()
    moved(model)
    start = plain(input_ids=IDS).logits
    scaled = model(input_ids=IDS).logits
    assert (scaled - start).abs().max() > 1e-2
    with adapter.off(model):
        assert torch.equal(model(input_ids=IDS).logits, start)
    assert torch.equal(model(input_ids=IDS).logits, scaled)
    merged = dict(merged_weights(model))
    assert merged.keys() == {name for name, _ in plain.named_parameters()}
    plain.load_state_dict(merged, strict=False)
    assert torch.allclose(
        plain(input_ids=IDS).logits, scaled, rtol=0, atol=2e-5 if single else 1e-9
    )


def test_ssl_is_pefts_ia3_with_feedforward_targets(tmp_path: Path) -> None:
    import peft

    path, targets = make_family(tmp_path, "Qwen2"), list(Ssl().target_modules)
    model = moved(adapted(path, Ssl()).double())
    ia3 = peft.get_peft_model(
        load_model(LearnerConfig(model=ModelConfig(path=path)), 0).eval().double(),
        peft.IA3Config(target_modules=targets, feedforward_modules=targets),
    )
    for name, layer in model.named_modules():
        if isinstance(layer, ScaledLayer):
            same: Any = ia3.get_base_model().get_submodule(name)
            same.ia3_l["default"].data = 1 + layer.inputs.data[None]
    assert torch.allclose(
        model(input_ids=IDS).logits, ia3(input_ids=IDS).logits, rtol=0, atol=1e-12
    )


def refusal(path: str, adapter: Adapter) -> str:
    with pytest.raises(ValueError) as error:
        check_adapters(empty_model(path), adapter)
    return str(error.value)


def test_targets_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    tied = make_family(tmp_path / "tied", "Llama", tied=True)
    untied = make_family(tmp_path / "untied", "Llama", tied=False)
    begin = "model.adapter.target_modules names "
    said = refusal(tied, Ssb(target_modules=("lm_head",)))
    assert said.startswith(begin + "'lm_head', which is one end of its tied embeddings")
    check_adapters(empty_model(untied), Ssb(target_modules=("lm_head",)))
    said = refusal(untied, Ssl(target_modules=("embed_tokens",)))
    assert said.startswith(begin + "'embed_tokens', which is no layer with a matrix that Ssl chang")
    said = refusal(untied, Ssl(target_modules=("key_proj",)))
    assert "which is no layer of it; the nearest valid value for LlamaForCausalLM is ('q_p" in said


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("target", ["gate", "experts", "w1", "gate_proj", "down_proj"])
def test_experts_and_routers_are_refused(tmp_path: Path, family: str, target: str) -> None:
    said = refusal(make_family(tmp_path, family), Ssb(target_modules=(target,)))
    assert f"names {target!r}, which is" in said


def test_without_any_layer_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM has no layer of"):
        Ssl(target_modules=("c_attn",)).put_on(empty_model(make_family(tmp_path, "Llama")))


@pytest.mark.parametrize("adapter", BOTH, ids=NAMES)
def test_a_new_head_is_trained_whole_and_off_it_is_the_first(
    tmp_path: Path, adapter: Adapter
) -> None:
    path = make_family(tmp_path, "Llama")
    config = LearnerConfig(model=ModelConfig(path=path), head="token_classification")
    plain = load_model(config, 0).eval()
    model = load_model(replace(config, model=ModelConfig(path=path, adapter=adapter)), 0).eval()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("score" in name for name in trained)

    def logits(model: Any) -> Tensor:
        return model(input_ids=IDS).logits

    start = logits(plain)
    assert torch.equal(logits(model), start)
    moved(model)
    with adapter.off(model):
        assert torch.equal(logits(model), start)
    merged = deepcopy(plain)
    merged.load_state_dict(dict(merged_weights(model)), strict=True)
    assert torch.allclose(logits(merged), logits(model), atol=1e-5)
    assert (logits(merged) - start).abs().max() > 1e-2


def test_one_kind_of_adapter_and_none_of_a_reference() -> None:
    with pytest.raises(ValueError, match=r"model\.adapter is Ssb, and model\.lora\.rank is 4"):
        ModelConfig(path="/x", adapter=Ssb(), lora=LoraConfig(rank=4))
    teacher = ModelConfig(path="/x", adapter=Ssl())
    with pytest.raises(ValueError, match=r"learner\.reference_model\.adapter is Ssl, and a ref"):
        LearnerConfig(model=ModelConfig(path="/y"), reference="model", reference_model=teacher)
    assert ModelConfig(path="/x").adapters is None
    assert ModelConfig(path="/x", adapter=Ssb()).adapters == Ssb()
    assert ModelConfig(path="/x", lora=LoraConfig(rank=4)).adapters == LoraConfig(rank=4)
