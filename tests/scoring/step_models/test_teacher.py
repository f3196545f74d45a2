"""What a teacher says of the policy's own tokens, and which teachers are refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.config import LearnerConfig, ModelConfig
from rlstep.scoring.step_models.teacher import Teacher
from rlstep.types import Failure, Rollout, StepScores, TokenScores
from tests.builders import make_rollout
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

TEACHER = Teacher(learner=LearnerConfig(model=ModelConfig(path="/nowhere")))
BY_STEP = replace(TEACHER, level="step")


def with_logprobs(rollout: Rollout, logprobs: list[float]) -> Rollout:
    column = np.array(logprobs, dtype=np.float32)
    return replace(rollout, completion=replace(rollout.completion, logprobs=column))


# A prompt of two tokens, two steps of 2 and 1 tokens.
ROLLOUT = with_logprobs(make_rollout("r", [[11, 12], [13]]), [-1.0, -2.0, -0.5])
PREDICTIONS = np.array([0.0, -9.0, -1.5, -0.5, -4.5], dtype=np.float32)
"""The teacher's logprobs of prompt and completion."""


def test_a_token_has_the_teachers_logprob_less_the_policys():
    scores = TEACHER.read_out(ROLLOUT, PREDICTIONS, 0)
    assert isinstance(scores, TokenScores) and scores.values.dtype == np.float32
    assert scores.values.tolist() == [-0.5, 1.5, -4.0]


def test_a_step_has_the_mean_of_its_tokens():
    scores = BY_STEP.read_out(ROLLOUT, PREDICTIONS, 0)
    assert isinstance(scores, StepScores) and scores.values.dtype == np.float32
    assert scores.values.tolist() == [0.5, -4.0]  # (-0.5 + 1.5) / 2, and -4


def test_what_was_observed_has_none():
    talk = make_rollout("t", [[11, 12], [13]], observed={-1: [7], 0: [8, 9]})
    talk = with_logprobs(talk, [0.0, -1.0, -2.0, 0.0, 0.0, -0.5])
    predictions = np.array([0, -9, -30, -1.5, -0.5, -np.inf, -30, -4.5], dtype=np.float32)
    tokens = TEACHER.read_out(talk, predictions, 0)
    assert isinstance(tokens, TokenScores)
    assert tokens.values.tolist() == [0.0, -0.5, 1.5, 0.0, 0.0, -4.0]
    steps = BY_STEP.read_out(talk, predictions, 0)
    assert isinstance(steps, StepScores) and steps.values.tolist() == [0.5, -4.0]


@pytest.mark.parametrize("teacher", [TEACHER, BY_STEP], ids=["token", "step"])
def test_what_is_not_finite_is_a_failure(teacher: Teacher):
    for spoilt in (np.nan, -np.inf):
        predictions = PREDICTIONS.copy()
        predictions[-1] = spoilt
        found = teacher.read_out(ROLLOUT, predictions, 3)
        assert found == Failure(reason="not_finite", detail="teacher version 3")


def test_it_is_never_trained():
    assert TEACHER.loss is None and not TEACHER.samples([ROLLOUT]).sequences


def test_a_head_is_no_teacher():
    scalar = LearnerConfig(model=ModelConfig(path="/nowhere"), head="two_token")
    with pytest.raises(ValueError, match=r"\(Teacher\)\.learner\.head is 'two_token'; it must be"):
        Teacher(learner=scalar)


def saved(tokenizer: Any, folder: Path) -> Teacher:
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return Teacher(learner=LearnerConfig(model=ModelConfig(path=str(folder))))


def test_another_tokenizer_is_refused_by_name(tmp_path: Path):
    policy = byte_level_tokenizer()
    assert saved(policy, tmp_path / "own").reader(policy) is None
    with pytest.raises(ValueError) as caught:
        saved(sentencepiece_tokenizer(), tmp_path / "other").reader(policy)
    said = str(caught.value)
    path = str(tmp_path / "other")
    assert said.startswith(f"step_models (Teacher).learner.model.path is {path!r}, whose tokenizer")
    assert "it must have the same tokenizer" in said


def test_a_teacher_may_know_more_tokens_than_the_policy(tmp_path: Path):
    policy, larger = (copy.deepcopy(byte_level_tokenizer()) for _ in range(2))
    larger.add_tokens(["<more>"])
    assert saved(larger, tmp_path / "larger").reader(policy) is None
    policy.add_tokens(["<mine>"])
    with pytest.raises(ValueError, match=r"'<mine>' is \d+ in the policy's and none of its tokens"):
        saved(byte_level_tokenizer(), tmp_path / "smaller").reader(policy)
