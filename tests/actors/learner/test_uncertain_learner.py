"""Uncertainty with a real learner: a head of two outputs, bagged members, a head's inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlstep.actors.learner.learner import LearnerWorker
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.models import check_learner
from rlstep.actors.scorer.scorer_group import ScorerGroup
from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig, OptimizerConfig, ScorerConfig
from rlstep.losses.gaussian_label import GaussianLabelLoss
from rlstep.losses.step_label import StepLabelLoss
from rlstep.scoring.step_models.advpo import AdvPo, measure
from rlstep.scoring.step_models.bagged_prm import BaggedPrm
from rlstep.scoring.step_models.urm import Urm
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tensors.labels import step_labels
from rlstep.tensors.sequences import last_tokens
from rlstep.types import LabelSamples, Rollout, StepScores
from tests.actors.learner.learner_kit import label_samples, make_sequences, running
from tests.builders import make_counts, make_prompt, make_rollout

CLEAN, NOISY = 10, 11
IDS = [s.token_ids for s in make_sequences()]


def config(path: str, **changes: Any) -> LearnerConfig:
    values: dict[str, Any] = {
        "model": ModelConfig(path=path),
        "head": "token_classification",
        "reference": "none",
        "threads": 1,
        "token_budget": 64,
        "optimizer": OptimizerConfig(learning_rate=1e-2),
    }
    return LearnerConfig(**(values | changes))


def rollout(prompt: int, last: int, k: int) -> Rollout:
    """Two steps; the second, a single token, has k of 1 continuations right."""
    scores = {"monte_carlo": make_counts([0, 1], [0, k])}
    prompt_id = f"{prompt}/{last}/{k}"
    return make_rollout(
        prompt_id,
        [[20, 21 + prompt % 4], [last]],
        scores=scores,
        prompt=make_prompt(prompt_id, [2, 3 + prompt % 5]),
    )


ROLLOUTS = [
    # After CLEAN every continuation is right, after NOISY every second one, whatever came before.
    rollout(prompt, last, k)
    for prompt in range(8)
    for last, k in [(CLEAN, 1), (CLEAN, 1), (NOISY, 0), (NOISY, 1)]
]


def test_sigma_is_larger_where_labels_are_noisy(tiny_model: str, tmp_path: Path):
    urm = Urm(learner=config(tiny_model), loss=GaussianLabelLoss(least_sigma=0.02))
    samples = urm.samples(ROLLOUTS)
    ids = [r.prefix_ids(2) for r in ROLLOUTS]

    def read(predictions: dict[int, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Means and sigmas, [32, 2 steps]."""
        read = [urm.read_out(r, predictions[i], 0) for i, r in enumerate(ROLLOUTS)]
        known = [s for s in read if isinstance(s, StepScores) and s.log_sigma is not None]
        assert len(known) == len(ROLLOUTS)
        log_sigma = np.stack([s.log_sigma for s in known if s.log_sigma is not None])
        return np.stack([s.values for s in known]), np.exp(log_sigma)

    with running(urm.learner, urm.loss) as worker:
        start = worker.predict(ids)
        assert start[0].shape == (5, 2) and start[0].dtype == np.float32
        means, sigmas = read(start)
        assert (means == 0.5).all() and (sigmas == 1.0).all()  # an untrained head knows nothing
        metrics = [worker.train(samples) for _ in range(40)]
        trained = worker.predict(ids)
        worker.export(str(tmp_path / "urm"))
    means, sigmas = (column[:, 1] for column in read(trained))
    noisy = np.array([r.completion.token_ids[-1] == NOISY for r in ROLLOUTS])
    assert means[~noisy].min() > 0.9 and np.abs(means[noisy] - 0.5).max() < 0.2
    # Labels 0 and 1 of mean 1/2 have a standard deviation of 1/2.
    assert np.abs(sigmas[noisy] - 0.5).max() < 0.15 and sigmas[~noisy].max() < 0.15
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    # The folder holds both outputs of the head.
    with running(config(str(tmp_path / "urm")), urm.loss) as worker:
        again = worker.predict(ids)
    assert max(np.abs(again[i] - trained[i]).max() for i in again) < 1e-6


@pytest.mark.parametrize("stage", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_an_update_of_two_outputs_does_not_depend_on_micro_batches(tiny_model: str, stage: int):
    optimizer = OptimizerConfig(learning_rate=1e-2, gradient_clip=0.0)
    found = []
    for budget in (10_000, 1):
        settings = config(tiny_model, token_budget=budget, zero_stage=stage, optimizer=optimizer)
        with running(settings, GaussianLabelLoss()) as worker:
            metrics = [worker.train(label_samples()) for _ in range(2)]
            found.append((metrics, worker.predict(IDS)))
    (whole, expected), (parts, got) = found
    for mine, theirs in zip(whole, parts, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-5)
        assert theirs["grad_norm"] == pytest.approx(mine["grad_norm"], rel=1e-4)
    assert max(np.abs(got[i] - expected[i]).max() for i in got) < 2e-3


def test_a_head_of_two_outputs_needs_a_scalar_head(tiny_model: str):
    language = config(tiny_model, head="language_model")
    with pytest.raises(ValueError, match=r"GaussianLabelLoss is for a head of 2 outputs: it must"):
        check_learner(language, GaussianLabelLoss())


def test_members_of_one_start_agree_and_bagged_ones_do_not(tiny_model: str):
    def trained(source: str, samples: LabelSamples | None = None) -> np.ndarray:
        prm = BaggedPrm(learner=config(tiny_model), loss=StepLabelLoss(), source=source)
        with running(prm.learner, prm.loss) as worker:
            for _ in range(3):
                worker.train(prm.samples(ROLLOUTS) if samples is None else samples)
            return np.concatenate(list(worker.predict(IDS).values()))

    np.testing.assert_array_equal(trained("a", label_samples()), trained("b", label_samples()))
    assert np.abs(trained("a") - trained("b")).max() > 0.1


# --- a head's inputs -----------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "lora"), [(0, 0), (3, 0), (0, 4)])
def test_embeddings_are_what_the_head_reads(tiny_model: str, tmp_path: Path, stage: int, lora: int):
    from transformers import AutoModelForTokenClassification

    model = ModelConfig(path=tiny_model, lora=LoraConfig(rank=lora))
    at = [np.array([len(row) - 1, 2]) for row in IDS[:-1]] + [np.zeros(0, np.int32)]
    with running(config(tiny_model, model=model, zero_stage=stage), StepLabelLoss()) as worker:
        for _ in range(3):
            worker.train(label_samples())
        rows, outputs = worker.embed((IDS, at)), worker.predict(IDS)
        worker.export(str(tmp_path / "prm"))
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "prm").eval()
    for i, (ids, positions) in enumerate(zip(IDS, at, strict=True)):
        assert rows[i].shape == (len(positions), 33) and rows[i].dtype == np.float32
        with torch.no_grad():
            hidden = plain.base_model(torch.tensor(ids[None].astype(np.int64))).last_hidden_state
        expected = hidden[0].numpy()[positions]
        np.testing.assert_allclose(rows[i][:, 1:], expected, atol=2e-4)
        np.testing.assert_allclose(rows[i][:, 0], outputs[i][positions], atol=1e-5)
        weight, bias = plain.score.weight.detach().numpy()[0], plain.score.bias.item()
        np.testing.assert_allclose(rows[i][:, 0], rows[i][:, 1:] @ weight + bias, atol=2e-4)
    assert max(np.abs(row[:, 0]).max() for row in rows.values() if len(row)) > 0.1  # it is trained


def test_a_model_without_a_scalar_head_has_no_inputs_of_one(tiny_model: str):
    with (
        running(config(tiny_model, head="language_model"), StepLabelLoss()) as worker,
        pytest.raises(ValueError, match=r"Qwen2ForCausalLM has no head named 'score'"),
    ):
        worker.embed((IDS, [np.zeros(1, int)] * len(IDS)))


@dataclass(frozen=True)
class InThisProcess:
    """A learner's one rank as the role."""

    worker: LearnerWorker

    async def embed(self, sequences: Any, positions: Any) -> list[Any]:
        rows = self.worker.embed((sequences, positions))
        return [rows[i] for i in range(len(sequences))]


async def test_steps_unlike_the_training_data_are_uncertain(tiny_model: str, tmp_path: Path):
    prm = BaggedPrm(learner=config(tiny_model), loss=StepLabelLoss(), source="all")
    random = np.random.default_rng(0)
    strange = [
        make_rollout(
            f"s{i}", [random.integers(2, 48, 3).tolist()], prompt=make_prompt("s", [30, i])
        )
        for i in range(2, 34)
    ]
    with running(prm.learner, prm.loss) as worker:
        for _ in range(20):
            worker.train(_labels(ROLLOUTS))
        learner: Any = InThisProcess(worker)
        await measure(learner, _labels(ROLLOUTS), tmp_path / "s.npz")
        advpo = AdvPo(learner=prm.learner, loss=prm.loss, statistics=str(tmp_path / "s.npz"))
        logit_sigma = []
        for rollouts in (ROLLOUTS, strange):
            ids = [r.prefix_ids(len(r.steps)) for r in rollouts]
            rows = await learner.embed(ids, [last_tokens(r)[-1:] for r in rollouts])
            scores = [s for s in advpo.read_out_all(rollouts, rows, 0) if isinstance(s, StepScores)]
            sigma = [
                np.exp(s.log_sigma) / (s.values * (1 - s.values))
                for s in scores
                if s.log_sigma is not None
            ]
            logit_sigma.append(np.concatenate(sigma))
    seen, unseen = logit_sigma
    assert len(seen) == len(unseen) == 32
    assert seen.max() < unseen.min() and 5.0 * np.median(seen) < np.median(unseen)


@pytest.mark.slow
async def test_advpo_scores_by_a_trained_learner(ray_cluster, tiny_model: str, tmp_path: Path):
    """Measured and scored through two ranks and the scorer role; never trained in between."""
    prm = BaggedPrm(learner=config(tiny_model), loss=StepLabelLoss(), source="all")
    seen = [r for r in ROLLOUTS if r.completion.token_ids[-1] == CLEAN]
    wrong = [r for r in ROLLOUTS if r.rollout_id.endswith(f"{NOISY}/0")]
    samples = _labels([*seen, *wrong])
    folder, file = str(tmp_path / "prm"), tmp_path / "statistics.npz"
    with running(prm.learner, prm.loss) as worker:
        for _ in range(20):
            worker.train(samples)
        worker.export(folder)
    two = config(folder, world_size=2)
    group = await LearnerGroup.start(two, prm.loss, name="advpo", seed=0, deadline_s=1200)
    try:
        await measure(group, samples, file)
        plain = AdvPo(learner=two, loss=prm.loss, statistics=str(file))
        assert (await group.train(plain.samples(ROLLOUTS)))["updates"] == 0
        strange = make_rollout("s", [[20], [40, 33, 29]], prompt=make_prompt("s", [30, 31]))
        moved = replace(plain, radius=2.0)
        scored = []
        for model in (plain, moved):
            scorer = ScorerGroup(
                ScorerConfig(), AnswerLine(), [StepModelRole(model, group, None)], {}
            )
            scored.append(await scorer.score_steps([*seen, strange]))
            await scorer.close()
    finally:
        await group.close()
    before, after = ([r.step_scores("advpo") for r in part] for part in scored)
    sigma = [score.log_sigma for score in before if score is not None]
    assert len(sigma) == len(seen) + 1 and all(
        s is not None and np.isfinite(s).all() for s in sigma
    )
    logits, worse = (
        np.concatenate([np.log(s.values / (1 - s.values)) for s in part if s is not None])
        for part in (before, after)
    )
    # The worst head costs the batch something on average.
    assert (worse - logits).mean() < -0.01


def _labels(rollouts: list[Rollout]) -> LabelSamples:
    """As of one problem, so that steps can be compared."""
    return step_labels([replace(r, prompt=replace(r.prompt, prompt_id="one")) for r in rollouts])
