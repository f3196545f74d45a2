"""SGD-SaI under real DeepSpeed: every ZeRO stage against a loop in plain torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig
from rlstep.optimizers.sgd_sai import SgdSai
from tests.actors.learner.learner_kit import RatioLoss, advantage_samples, running, weights

PLUGIN = SgdSai(learning_rate=3e-4, weight_decay=0.1, gradient_clip=0.0)
SAMPLES = advantage_samples()
PASSES = 3


def config(path: str, **fields: Any) -> LearnerConfig:
    plain = LearnerConfig(model=ModelConfig(path=path), optimizer=PLUGIN, threads=1)
    return replace(plain, **({"token_budget": 64} | fields))


def gradients(model: Any) -> None:
    """Of `RatioLoss` before the first update on the samples: every ratio is 1, the drift 0."""
    objective = torch.zeros(())
    for s, advantages in zip(SAMPLES.sequences, SAMPLES.advantages, strict=True):
        ids = torch.tensor(s.token_ids).long()
        every = model(ids[None]).logits[0, :-1].log_softmax(-1)
        logprobs = every.gather(-1, ids[1:, None])[:, 0]
        gains = (logprobs - logprobs.detach()).exp() * torch.tensor(advantages[1:])
        objective = objective - gains[torch.tensor(s.loss_mask[1:])].sum()
    model.zero_grad()
    (objective / sum(int(s.loss_mask.sum()) for s in SAMPLES.sequences)).backward()


@pytest.fixture(scope="module")
def expected(tiny_model: str) -> dict[str, Tensor]:
    """The weights after the passes, by the formula, tensor by tensor."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    ratio: dict[str, Tensor] = {}
    moment: dict[str, Tensor] = {}
    for _ in range(PASSES):
        gradients(model)
        for name, p in model.named_parameters():
            assert p.grad is not None
            ratio.setdefault(name, p.grad.norm() / p.grad.std())
            moment[name] = 0.9 * moment.get(name, p.grad) + 0.1 * p.grad
            decay = 0.1 if p.ndim >= 2 else 0.0
            p.data = p.data * (1 - 3e-4 * decay) - 3e-4 * ratio[name] * moment[name]
    return {name: p.detach() for name, p in model.named_parameters()}


def same(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    for name, value in wanted.items():
        assert (got[name] - value).abs().max() <= tolerance, name


@pytest.mark.parametrize("stage", [0, pytest.param(1, marks=pytest.mark.slow), 2, 3])
def test_one_rank_is_the_plain_loop(tiny_model: str, expected: dict[str, Tensor], stage: int):
    with running(config(tiny_model, zero_stage=stage), RatioLoss()) as worker:
        before = weights(worker)
        for _ in range(PASSES):
            assert worker.train(SAMPLES)["updates"] == 1
        got = weights(worker)
    same(got, expected)
    moved = max((got[name] - before[name]).abs().max() for name in expected)
    assert moved > 1e-3  # so that a tolerance of 1e-6 says something


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
async def test_two_ranks_are_the_plain_loop_also_when_resumed(
    ray_cluster: None, tiny_model: str, tmp_path: Path, expected: dict[str, Tensor], stage: int
):
    two = config(tiny_model, zero_stage=stage, world_size=2)
    await _train(two, tmp_path, None, PASSES - 1)
    await _train(two, tmp_path, tmp_path / "state", 1)  # in other processes
    from transformers import AutoModelForCausalLM

    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    same({name: p.detach() for name, p in trained.named_parameters()}, expected)


async def _train(config: LearnerConfig, folder: Path, saved: Path | None, passes: int) -> None:
    group = await LearnerGroup.start(config, RatioLoss(), name="policy", seed=0, deadline_s=600)
    try:
        if saved:
            await group.restore(str(saved))
        for _ in range(passes):
            assert (await group.train(SAMPLES))["updates"] == 1
        if not saved:
            await group.save(str(folder / "state"))
        await group.export(str(folder / "export"))
    finally:
        await group.close()


def states(worker: Any) -> list[dict[str, Any]]:
    optimizer = getattr(worker.engine.optimizer, "optimizer", worker.engine.optimizer)
    return list(optimizer.state.values())


@pytest.mark.parametrize("stage", [0, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_what_was_measured_is_in_the_checkpoint(tiny_model: str, tmp_path: Path, stage: int):
    settings = config(tiny_model, zero_stage=stage)
    with running(settings, RatioLoss()) as worker:
        worker.train(SAMPLES)
        measured = [state["ratios"] for state in states(worker)]
        worker.save(str(tmp_path))
        worker.train(SAMPLES)
        on = weights(worker)
    assert measured and all(ratio > 0.0 for ratios in measured for ratio in ratios)
    with running(settings, RatioLoss(), seed=1) as worker:
        worker.restore(str(tmp_path))
        assert [state["ratios"] for state in states(worker)] == measured
        worker.train(SAMPLES)
        assert [state["ratios"] for state in states(worker)] == measured
        assert all(torch.equal(value, on[name]) for name, value in weights(worker).items())


@pytest.mark.parametrize("stage", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_adapter_whose_first_gradient_is_0_moves(tiny_model: str, stage: int):
    # B is 0 at the start, so A's gradient is, until B has moved.
    model = ModelConfig(path=tiny_model, lora=LoraConfig(rank=2))
    with running(config(tiny_model, model=model, zero_stage=stage), RatioLoss()) as worker:
        worker.train(SAMPLES)
        first = [ratio for state in states(worker) for ratio in state["ratios"]]
        assert 0.0 in first and max(first) > 0.0
        start = [p.clone() for n, p in worker.engine.module.named_parameters() if "lora_A" in n]
        worker.train(SAMPLES)
        assert all(ratio > 0.0 for state in states(worker) for ratio in state["ratios"])
        now = [p for n, p in worker.engine.module.named_parameters() if "lora_A" in n]
        assert all((a != b).any() for a, b in zip(start, now, strict=True))


@pytest.mark.parametrize("stage", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_no_step_and_no_measurement_from_what_is_not_finite(tiny_model: str, stage: int):
    with running(config(tiny_model, zero_stage=stage), RatioLoss(poison="gradient")) as worker:
        before = weights(worker)
        assert worker.train(SAMPLES)["skipped_updates"] == 1
        same(weights(worker), before, 0.0)
        worker.loss = RatioLoss()
        assert worker.train(SAMPLES)["updates"] == 1
        assert all(ratio > 0.0 for state in states(worker) for ratio in state["ratios"])


def test_masters_of_bfloat16_weights_are_measured_in_float32(tiny_model: str):
    model = ModelConfig(path=tiny_model, dtype="bfloat16")
    with running(config(tiny_model, model=model), RatioLoss()) as worker:
        worker.train(SAMPLES)
        kept = states(worker)
    assert all(state["momentum"].dtype == torch.float32 for state in kept)
    assert all(ratio > 0.0 for state in kept for ratio in state["ratios"])


@pytest.mark.slow
def test_an_offloaded_one_is_the_plain_loop(tiny_model: str, expected: dict[str, Tensor]):
    settings = config(tiny_model, zero_stage=2, offload_optimizer=True)
    with running(settings, RatioLoss()) as worker:
        for _ in range(PASSES):
            worker.train(SAMPLES)
        same(weights(worker), expected)
