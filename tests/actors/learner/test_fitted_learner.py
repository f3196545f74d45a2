"""What `rlstep fit` leaves, on real DeepSpeed: a reward model, a critic to begin with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.advantages.gae import Gae
from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.examples.judged_steps import JudgedSteps
from rlstep.examples.state_values import StateValues
from rlstep.losses.bradley_terry import BradleyTerry
from rlstep.losses.value import ValueLoss
from rlstep.measuring.fitted import fit_metrics
from rlstep.scoring.step_models.critic import Critic
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import StepScores
from tests.actors.learner.learner_kit import pair_samples, running
from tests.actors.learner.prm_kit import apart, frozen, rows
from tests.builders import make_prompt, make_rollout
from tests.run.run_kit import make_policy


def scalar(path: str, **fields: Any) -> LearnerConfig:
    return LearnerConfig(
        model=ModelConfig(path=path),
        head="token_classification",
        reference="none",
        threads=1,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        **fields,
    )


@pytest.mark.parametrize("budget", [16384, 40])
def test_a_reward_model_learns_preferences_and_is_read_again(
    tiny_model: str, budget: int, tmp_path: Path
) -> None:
    samples = pair_samples()
    ids = [s.token_ids for s in samples.sequences]
    with running(scalar(tiny_model, token_budget=budget), BradleyTerry()) as worker:
        first = worker.train(samples)
        for _ in range(12):
            last = worker.train(samples)
        predictions = rows(worker.predict(ids))
        worker.export(str(tmp_path))
    # A new head is 0 everywhere: no pair is ordered, and the loss is ln 2.
    assert first["loss"] == pytest.approx(math.log(2.0)) and first["pair_accuracy"] == 0.0
    assert first["grad_norm"] > 0.0
    assert last["pair_accuracy"] == 1.0 and last["loss"] < 0.1
    found = fit_metrics(samples, predictions, scores=True)
    assert found["eval/pair_accuracy"] == 1.0 and found["eval/pair_loss"] < 0.1
    with frozen(scalar(str(tmp_path))) as rank:
        assert apart(rows(rank.predict(ids)), predictions) < 1e-4


def test_a_critic_starts_from_values_that_were_fitted(tmp_path: Path) -> None:
    """Solutions that end right from '2+3', and wrong from '2*3': the fitted critic values the
    states of a run's rollouts so before its first update, a new one all by 0."""
    policy, tokenizer = make_policy(tmp_path / "policy"), arithmetic_tokenizer()
    solved = {"problem": "2+3", "steps": ["2+3=5", "#5"], "labels": [1, 1]}
    failed = {"problem": "2*3", "steps": ["2*3=5", "#5"], "labels": [0, 0]}
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(solved)}\n{json.dumps(failed)}\n")
    template = PromptTemplate(chat=False, text="{problem}\n")
    judged = JudgedSteps(path=str(path), template=template, epochs=60)
    examples = StateValues(of=judged, level="step")
    with running(scalar(policy), ValueLoss()) as worker:
        metrics = [worker.train(samples) for samples in examples.batches(tokenizer, 0)]
        worker.export(str(tmp_path / "fitted"))
    assert metrics[0]["loss"] == pytest.approx(0.5)  # (1 + 1 + 0 + 0) / 4 at values of 0
    assert metrics[-1]["loss"] < 0.01

    [samples] = JudgedSteps(path=str(path), template=template).batches(tokenizer, 0)
    rollouts = []
    for sequence in samples.sequences:
        steps = [sequence.token_ids[sequence.step_index == k].tolist() for k in (0, 1)]
        prompt = make_prompt(tokens=sequence.token_ids[sequence.step_index < 0].tolist())
        rollouts.append(make_rollout(sequence.sequence_id, steps, prompt=prompt))
    found = {}
    for name, folder in (("new", policy), ("fitted", str(tmp_path / "fitted"))):
        critic = Critic(learner=scalar(folder), loss=ValueLoss(), gae=Gae(level="step"))
        with running(critic.learner, critic.loss) as worker:
            outputs = rows(worker.predict([r.prefix_ids(2) for r in rollouts]))
        scores = [critic.read_out(r, o, 0) for r, o in zip(rollouts, outputs, strict=True)]
        found[name] = [s.values for s in scores if isinstance(s, StepScores)]
    solved_first = "2+3" in tokenizer.decode(rollouts[0].prompt.token_ids.tolist())
    expected = [[1.0, 1.0], [0.0, 0.0]] if solved_first else [[0.0, 0.0], [1.0, 1.0]]
    np.testing.assert_allclose(found["fitted"], expected, atol=0.15)
    np.testing.assert_array_equal(found["new"], np.zeros((2, 2)))
