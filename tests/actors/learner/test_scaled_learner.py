"""SSL and SSB under DeepSpeed: the reference, files, and what is trained, at every ZeRO stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlstep.actors.learner.saved_weights import export_saved
from rlstep.adapters.scaling import Ssb, Ssl
from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from tests.actors.learner.learner_kit import (
    MarginLoss,
    RatioLoss,
    advantage_samples,
    pair_samples,
    running,
    weights,
)

IDS = [s.token_ids for s in advantage_samples().sequences]
SLOW = pytest.mark.slow
STAGES = [0, pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW), 3]
"""The model's attention has biases, which stage 3 frees after each layer."""


def config(path: str, stage: int = 0, **fields: Any) -> LearnerConfig:
    fields.setdefault("model", ModelConfig(path=path, adapter=Ssb()))
    return LearnerConfig(
        threads=1,
        token_budget=64,
        zero_stage=stage,  # type: ignore[arg-type]
        optimizer=OptimizerConfig(learning_rate=3e-2, weight_decay=0.1),
        **fields,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_initial_reference_needs_no_second_model(tiny_model: str, stage: int) -> None:
    with running(config(tiny_model, stage, reference="initial"), RatioLoss()) as worker:
        assert worker.frozen is None
        start = worker.predict(IDS)
        first, second = (worker.train(advantage_samples())["drift"] for _ in range(2))
        assert first == 0.0 and second > 1e-3
        ratios, now = worker.predict(IDS, log_ratios=True), worker.predict(IDS)
        for i, row in now.items():
            assert np.abs(row - ratios[i] - start[i]).max() < 1e-5
        assert max(np.abs(ratio).max() for ratio in ratios.values()) > 1e-2


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_saved_goes_on_and_is_exported_merged(
    tiny_model: str, tmp_path: Path, stage: int
) -> None:
    settings, samples = config(tiny_model, stage), pair_samples()
    saved, own, later = (tmp_path / name for name in ("saved", "own", "later"))
    with running(settings, MarginLoss()) as worker:
        worker.train(samples)
        worker.save(str(saved))
        worker.export(str(own))
        trained = worker.predict(IDS)
        expected = worker.train(samples)
        end = weights(worker)
    with running(settings, MarginLoss(), seed=1) as worker:
        worker.restore(str(saved))
        got = worker.train(samples)
        assert all(torch.equal(value, end[name]) for name, value in weights(worker).items())
    assert expected | {"seconds": 0} == got | {"seconds": 0}
    export_saved(settings, saved, later)
    exported, again = (load_file(folder / "model.safetensors") for folder in (own, later))
    assert exported.keys() == again.keys() == load_file(f"{tiny_model}/model.safetensors").keys()
    assert all(torch.equal(exported[name], again[name]) for name in exported)
    with running(config(str(own), model=ModelConfig(path=str(own))), RatioLoss()) as worker:
        for i, row in worker.predict(IDS).items():
            assert np.abs(row - trained[i]).max() < 1e-5


@pytest.mark.parametrize("adapter", [Ssl(), Ssb()], ids=["ssl", "ssb"])
def test_only_the_scales_are_trained(tiny_model: str, adapter: Ssl) -> None:
    model = ModelConfig(path=tiny_model, adapter=adapter)
    settings = config(tiny_model, model=model, reference="initial")
    with running(settings, MarginLoss()) as worker:
        parameters = dict(worker.engine.module.named_parameters())
        before = {name: p.detach().clone() for name, p in parameters.items()}
        losses = [worker.train(pair_samples())["loss"] for _ in range(4)]
        changed = {name for name, p in parameters.items() if not torch.equal(p, before[name])}
    kinds = {name.rpartition(".")[2] for name in changed}
    assert kinds == ({"inputs", "outputs"} if adapter == Ssb() else {"inputs"})
    assert changed == {name for name in parameters if name.rpartition(".")[2] in kinds}
    assert losses[3] < losses[0]
