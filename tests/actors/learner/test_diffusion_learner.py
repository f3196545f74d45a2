"""The learner of a masked diffusion model: one rank in this process, under DeepSpeed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlstep.actors.generator.served import check_served
from rlstep.actors.learner.diffusion_learner import DiffusionLearner
from rlstep.actors.learner.models import check_learner
from rlstep.actors.learner.saved_weights import export_saved
from rlstep.commands.plan import parameters
from rlstep.config import DiffusionGeneratorConfig, LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.diffusion.canvas import read_canvas
from rlstep.diffusion.unmasking import Pace, sheets, unmask, written
from rlstep.losses.elbo_bgpo import ElboBgpo
from rlstep.types import AdvantageSamples
from tests.actors.learner.learner_kit import make_sequences, weights
from tests.diffusion.kit import make_diffusion_model, request


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_diffusion_model(tmp_path_factory.mktemp("diffusion"), canvas=24)


def config(path: str, **fields: Any) -> LearnerConfig:
    return LearnerConfig(
        model=ModelConfig(path=path),
        head="masked_diffusion",
        packing=False,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        threads=1,
        **fields,
    )


@contextmanager
def running(config: LearnerConfig) -> Iterator[DiffusionLearner]:
    worker = DiffusionLearner(
        config, ElboBgpo(), name="policy", rank=0, device="cpu", seed=0, timeout_s=600.0
    )
    worker.join(*worker.address())
    try:
        yield worker
    finally:
        worker.close()


def samples() -> AdvantageSamples:
    """Eight ragged completions of 4 prompts, every other one with an end token."""
    made = tuple(
        replace(s, token_ids=np.append(s.token_ids[:-1] % 16 + 2, 1 if i % 2 else 3).astype("i4"))
        for i, s in enumerate(make_sequences(8))
    )
    columns = tuple((s.loss_mask * (-1.0) ** i).astype(np.float32) for i, s in enumerate(made))
    return AdvantageSamples(sequences=made, advantages=columns, groups=4)


def test_micro_batches_change_nothing_and_maskings_are_new_at_every_update(path: str):
    found = []
    for budget in (24, 100_000):  # a canvas at a time, and all of them at once
        with running(config(path, elbo_samples=3, token_budget=budget, mini_batches=2)) as worker:
            first, second = worker.train(samples()), worker.train(samples())
            assert first["updates"] == 2 and first["tokens"] == 8 * 3 * 24
            assert first["elbo_per_token"] != second["elbo_per_token"]
            found.append((first["loss"], weights(worker)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    for name, value in found[0][1].items():
        torch.testing.assert_close(value, found[1][1][name], atol=1e-5, rtol=1e-4)


def test_what_is_predicted_is_what_the_sampler_says_of_its_tokens(path: str):
    canvas = read_canvas(path)
    asked = request([3, 4, 5], temperature=0.0, min_tokens=8, max_tokens=8)
    [sheet] = sheets(asked, canvas, Pace(block=4, tokens=1))
    with running(config(path)) as worker:
        model = worker.engine.module
        while sheet.end(canvas) is None:
            unmask([sheet], lambda seen: model(input_ids=seen).logits, canvas, 0)
        tokens, logprobs, _ = written(sheet, 11)
        both = np.concatenate([asked.prefix_ids, tokens])
        rows = worker.predict([both, both[:5]])
        assert rows[0][0] == 0.0 and len(rows[0]) == 11 and len(rows[1]) == 5
        np.testing.assert_allclose(rows[0][3:], logprobs, atol=1e-5)
        np.testing.assert_allclose(rows[1], rows[0][:5], atol=1e-5)  # what is behind is hidden


def test_a_checkpoint_goes_on_with_the_same_maskings_and_is_exported(path: str, tmp_path: Path):
    from transformers import AutoModelForMaskedLM

    with running(config(path)) as worker:
        worker.train(samples())
        worker.save(str(tmp_path / "saved"))
        after = worker.train(samples())
        worker.export(str(tmp_path / "live"))
    with running(config(path)) as worker:
        worker.restore(str(tmp_path / "saved"))
        again = worker.train(samples())
        assert again["loss"] == after["loss"] and again["elbo_per_token"] == after["elbo_per_token"]
        here = weights(worker)
    export_saved(config(path), tmp_path / "saved", tmp_path / "export")
    for folder in ("live", "export"):
        read: Any = AutoModelForMaskedLM.from_pretrained(tmp_path / folder)
        assert read_canvas(str(tmp_path / folder)) == read_canvas(path)
        if folder == "live":
            for name, value in read.named_parameters():
                torch.testing.assert_close(value.detach(), here[name])


def test_what_does_not_fit_is_refused_before_anything_starts(path: str, tmp_path: Path):
    check_learner(config(path), ElboBgpo())
    check_served(DiffusionGeneratorConfig(context=24), path, on_cpu=True)
    with pytest.raises(ValueError, match=r"generator.context is 25.*canvases of 24 tokens"):
        check_served(DiffusionGeneratorConfig(context=25), path, on_cpu=True)
    assert parameters(ModelConfig(path=path)) is not None  # counted though it is no causal model
    file = Path(make_diffusion_model(tmp_path / "model")) / "config.json"
    file.write_text(file.read_text().replace('"canvas_length": 24', '"canvas_length": null'))
    with pytest.raises(ValueError, match="canvas_length None; it is the number of tokens"):
        check_learner(config(str(tmp_path / "model")), ElboBgpo())
