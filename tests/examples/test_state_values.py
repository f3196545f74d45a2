"""Values to start a critic with: at the tokens where it is read, by hand and against its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from rlstep.advantages.gae import Gae
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.examples.judged_steps import JudgedSteps
from rlstep.examples.state_values import StateValues
from rlstep.losses.value import ValueLoss
from rlstep.scoring.step_models.critic import Critic
from rlstep.scoring.step_models.step_tags import StepTags
from rlstep.tensors.batching import collate, count
from rlstep.types import LabelSamples, StepScores, TokenScores
from tests.builders import make_outcome, make_step_scores, make_token_scores, zero_logprobs
from tests.examples.test_judged_steps import BARE, BYTES, ROW, labels, written
from tests.solutions import solution

Level = Literal["token", "step"]


def values(folder: Path, level: Level, *rows: dict) -> LabelSamples:
    examples = StateValues(of=JudgedSteps(path=written(folder, *rows), template=BARE), level=level)
    [samples] = examples.batches(BYTES, 0)
    return samples


def test_the_outcome_stands_before_every_step(tmp_path: Path) -> None:
    # 6 tokens of the problem, steps of 6, 4 and 2 tokens: they begin at 6, 12 and 16, and the
    # states before them are read one token earlier. The last step's label is 0.25.
    samples = values(tmp_path, "step", ROW)
    assert labels(samples) == {5: (0.25, 1.0), 11: (0.25, 1.0), 15: (0.25, 1.0)}
    assert samples.targets[0].sum() == 0.75


def test_the_outcome_stands_before_every_token(tmp_path: Path) -> None:
    # 12 tokens of the solution, at 6 to 17: the states before them are read at 5 to 16.
    samples = values(tmp_path, "token", ROW)
    assert labels(samples) == dict.fromkeys(range(5, 17), (0.25, 1.0))


def test_a_last_step_without_a_label_is_no_outcome(tmp_path: Path) -> None:
    samples = values(tmp_path, "step", {**ROW, "labels": [1, 0.5, None]})
    assert set(labels(samples).values()) == {(0.5, 1.0)}


@pytest.mark.parametrize("level", ["token", "step"])
def test_they_stand_where_the_critic_is_trained_and_read(level: Level, tmp_path: Path) -> None:
    """A run's own labels of the same solution at lambda 1; and a head that gives just these values
    is read out as the outcome everywhere."""
    steps = ("2+3=5\n", "5*2=10\n", "so 10\n")
    rollout = solution("2+3*2\n", *steps)
    row = {"problem": "2+3*2", "steps": [s.strip() for s in steps], "labels": [1, 0, 1]}
    judged = JudgedSteps(path=written(tmp_path, row), template=BARE, whole=False)
    [made] = StateValues(of=judged, level=level).batches(BYTES, 0)
    tokens = len(rollout.completion.token_ids)
    guess = make_token_scores([0.5] * tokens) if level == "token" else make_step_scores([0.5] * 3)
    scored = rollout.with_scores(outcome=make_outcome(1.0), critic=guess)
    gae = Gae(level=level, lam=1.0)
    expected = gae.value_labels([scored])
    assert made.sequences[0].token_ids.tolist() == expected.sequences[0].token_ids.tolist()
    assert labels(made) == labels(expected)

    learner = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
    critic = Critic(learner=learner, loss=ValueLoss(), gae=gae)
    predictions = np.where(made.sequences[0].loss_mask, made.targets[0], 9.0)
    score = critic.read_out(rollout, predictions.astype(np.float32), 0)
    assert isinstance(score, TokenScores | StepScores)
    assert score.values.tolist() == [1.0] * (tokens if level == "token" else 3)


def test_the_value_loss_fits_them(tmp_path: Path) -> None:
    # A new head gives 0 everywhere: the loss is the mean of 0.25^2 over the three states.
    import torch

    samples = values(tmp_path, "step", ROW)
    batch = collate(samples, zero_logprobs(samples), zero_logprobs(samples))
    out = ValueLoss()(torch.zeros(batch.token_ids.shape), batch, count(samples))  # type: ignore[arg-type]
    assert out.loss.item() == pytest.approx(0.0625)


def test_what_is_held_out_is_measured_alike(tmp_path: Path) -> None:
    path = written(tmp_path, ROW)
    held = StateValues(of=JudgedSteps(path=path, evaluation=path, template=BARE), level="step")
    samples = held.held_out(BYTES)
    assert samples is not None and set(labels(samples)) == {5, 11, 15}
    assert StateValues(of=JudgedSteps(path=path)).held_out(BYTES) is None


def test_a_layout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"examples\.of\.layout is StepTags, and a critic reads"):
        StateValues(of=JudgedSteps(path="a.jsonl", layout=StepTags()))
