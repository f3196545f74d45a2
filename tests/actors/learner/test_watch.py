"""What a learner says of itself: against the weights and logprobs themselves, however it is cut."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.adapters.scaling import Ssb
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig, OptimizerConfig
from rlstep.types import LabelSamples, PairSamples
from tests.actors.learner.learner_kit import (
    LabelLoss,
    MarginLoss,
    label_samples,
    pair_samples,
    running,
    weights,
)

LORA = LoraConfig(rank=2, target_modules=("q_proj", "down_proj"))


def config(path: str, **changes: Any) -> LearnerConfig:
    values: dict[str, Any] = {
        "model": ModelConfig(path=path),
        "threads": 1,
        "token_budget": 64,
        "optimizer": OptimizerConfig(learning_rate=1e-3),
        "mini_batches": 2,
        "statistics_every": 1,
    }
    return LearnerConfig(**(values | changes))


def samples() -> PairSamples:
    """Pairs of which the two sides answer one prompt."""
    made = pair_samples()
    sequences = list(made.sequences)
    for pair in made.pairs:
        row = sequences[pair.rejected]
        ids = np.concatenate([sequences[pair.chosen].token_ids[:3], row.token_ids[3:]])
        sequences[pair.rejected] = replace(row, token_ids=ids)
    return replace(made, sequences=tuple(sequences))


def told(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "/" in name}


def test_the_figures_are_those_of_weights_and_logprobs(tiny_model: str):
    given = samples()
    ids = [s.token_ids for s in given.sequences]
    with running(config(tiny_model), MarginLoss()) as worker:
        was, before = weights(worker), worker.predict(ids)
        metrics = worker.train(given)
        now, after = weights(worker), worker.predict(ids)
    name = "model.layers.1.mlp.down_proj.weight"
    layer = [n for n in now if n.startswith("model.layers.1.") and now[n].dim() == 2]
    assert name in layer and len(layer) == 7
    change = {n: (now[n] - was[n]).double() for n in layer}
    squares = sum(((c - c.mean()) ** 2).sum().item() for c in change.values())
    entries = sum(c.numel() for c in change.values())
    assert metrics["weights/change_std/1"] == pytest.approx((squares / entries) ** 0.5, rel=1e-9)
    still = sum((c == 0).sum().item() for c in change.values())
    assert metrics["weights/unmoved/1"] == still / entries
    rows = (
        float(after[i][s.loss_mask].sum() - before[i][s.loss_mask].sum())
        for i, s in enumerate(given.sequences)
    )
    moved = np.array(list(rows))
    assert metrics["displacement/chosen_change"] == pytest.approx(moved[:4].mean(), abs=1e-5)
    assert metrics["displacement/rejected_change"] == pytest.approx(moved[4:].mean(), abs=1e-5)
    assert metrics["displacement/chosen_fell"] == (moved[:4] < 0).mean()
    # Of two answers q is (1, e^d)/(1 + e^d), d the difference of what they moved by.
    q = 1 / (1 + np.exp(moved[4:] - moved[:4]))
    expected = -(q * np.log(q) + (1 - q) * np.log(1 - q)).mean()
    assert metrics["information/entropy"] == pytest.approx(expected, abs=1e-5)


def test_looking_changes_no_bit_of_the_training_and_keeps_its_cadence(tiny_model: str):
    ends = []
    for every in (0, 2):
        with running(config(tiny_model, statistics_every=every), MarginLoss()) as worker:
            looks = [bool(told(worker.train(samples()))) for _ in range(4)]
            assert looks == [False, every == 2] * 2
            ends.append(weights(worker))
    assert all((ends[0][name] == value).all() for name, value in ends[1].items())


def test_a_change_is_since_the_last_look(tiny_model: str):
    with running(config(tiny_model, statistics_every=2), MarginLoss()) as worker:
        seen = [weights(worker)]
        for _ in range(4):
            metrics = worker.train(samples())
            seen.append(weights(worker))
        worker.train(replace(samples(), sequences=(), pairs=()))
        idle = told(worker.train(replace(samples(), sequences=(), pairs=())))
    name = "lm_head.weight"
    change = (seen[4][name] - seen[2][name]).double()
    deviation = change.std(correction=0).item()
    assert metrics["weights/change_std/lm_head"] == pytest.approx(deviation, rel=1e-9)
    assert idle["weights/unmoved"] == 1.0 and "displacement/chosen_fell" not in idle


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_they_do_not_depend_on_zero(tiny_model: str, lora: bool):
    model = ModelConfig(path=tiny_model, lora=LORA if lora else LoraConfig())
    found = []
    for stage in (0, 3):
        with running(config(tiny_model, model=model, zero_stage=stage), MarginLoss()) as worker:
            worker.train(samples())
            found.append(told(worker.train(samples())))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize(
    "adapters",
    [{"lora": LORA}, {"adapter": Ssb(target_modules=LORA.target_modules)}],
    ids=["lora", "ssb"],
)
def test_of_adapters_only_what_they_move_counts(tiny_model: str, adapters: dict[str, Any]):
    model = ModelConfig(path=tiny_model, **adapters)
    with running(config(tiny_model, model=model), MarginLoss()) as worker:
        was = weights(worker)
        metrics = worker.train(samples())
        now = weights(worker)
    names = [f"model.layers.0.{n}.weight" for n in ("self_attn.q_proj", "mlp.down_proj")]
    changes = [(now[name] - was[name]).double() for name in names]
    squares = sum(((c - c.mean()) ** 2).sum().item() for c in changes)
    entries = sum(c.numel() for c in changes)
    assert metrics["weights/change_std/0"] == pytest.approx((squares / entries) ** 0.5, rel=1e-9)
    assert metrics["weights/unmoved/0"] < 0.1
    assert not {"weights/std/lm_head", "weights/std/embed_tokens"} & metrics.keys()


@pytest.mark.parametrize(("dtype", "dead"), [("float32", False), ("bfloat16", True)])
def test_small_updates_are_lost_in_bfloat16(tiny_model: str, dtype: Any, dead: bool):
    small = OptimizerConfig(learning_rate=5e-7)
    model = ModelConfig(path=tiny_model, dtype=dtype)
    with running(config(tiny_model, model=model, optimizer=small), MarginLoss()) as worker:
        assert (worker.train(samples())["weights/unmoved"] > 0.95) is dead


def test_a_scalar_head_has_no_logprobs(tiny_model: str):
    given: LabelSamples = label_samples()
    learner = config(tiny_model, head="token_classification", reference="none", mini_batches=1)
    with running(learner, LabelLoss()) as worker:
        metrics = told(worker.train(given))
    assert metrics and all(name.startswith("weights/") for name in metrics)


def test_the_cadence_goes_on_after_a_restore(tiny_model: str, tmp_path: Any):
    with running(config(tiny_model, statistics_every=2), MarginLoss()) as worker:
        assert not told(worker.train(samples()))
        worker.save(str(tmp_path))
    with running(config(tiny_model, statistics_every=2), MarginLoss()) as worker:
        worker.restore(str(tmp_path))
        assert told(worker.train(samples()))


def test_bad_input():
    with pytest.raises(ValueError, match=r"statistics_every is -1; the smallest valid value is 0"):
        config("anywhere", statistics_every=-1)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
async def test_two_ranks_say_what_one_says(ray_cluster: None, tiny_model: str, stage: Any):
    one = config(tiny_model, zero_stage=stage)
    found = []
    for ranks in (1, 2):
        learner = await LearnerGroup.start(
            replace(one, world_size=ranks), MarginLoss(), name="policy", seed=0, deadline_s=300.0
        )
        try:
            found.append(told(await learner.train(samples())))
        finally:
            await asyncio.wait_for(learner.close(), 60)
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
