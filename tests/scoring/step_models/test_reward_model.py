"""An outcome reward model in a run: what it reads, and what is read out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlstep.advantages.group import GroupAdvantages
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.interfaces import StepInputs
from rlstep.scoring.step_models.reward_model import RewardModel
from rlstep.types import Failure, RolloutScore
from tests.builders import make_group, make_rollout, make_steps
from tests.completions import make_completion
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

MODEL = RewardModel(
    learner=LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
)
ROLLOUT = make_rollout("r", [[11, 12], [13]])


def test_the_reward_is_the_heads_number_at_the_last_token():
    outputs = np.array([9.0, 9.0, 9.0, 9.0, -2.5], np.float32)
    assert MODEL.read_out(ROLLOUT, outputs, 3) == RolloutScore(value=-2.5)


def test_what_has_no_number_is_a_failure():
    outputs = np.array([0.0, 0.0, 0.0, 0.0, np.nan], np.float32)
    assert MODEL.read_out(ROLLOUT, outputs, 3) == Failure(
        reason="not_finite", detail="reward_model"
    )
    empty = replace(ROLLOUT, completion=make_completion([]), steps=make_steps([]))
    assert MODEL.read_out(empty, outputs, 3) == Failure(reason="no_steps", detail="reward_model")


def test_it_reads_the_policys_own_tokens_and_cuts_none(tmp_path: Path):
    read = model(written(tmp_path, byte_level_tokenizer(), longest=5)).reader(
        byte_level_tokenizer()
    )
    inputs = read(ROLLOUT)
    assert isinstance(inputs, StepInputs) and inputs.token_ids.tolist() == [1, 2, 11, 12, 13]
    longer = make_rollout("s", [[11, 12], [13, 14]])
    assert read(longer) == Failure(reason="too_long", detail="6 tokens, the model reads 5")


def model(path: str) -> RewardModel:
    return replace(MODEL, learner=replace(MODEL.learner, model=ModelConfig(path=path)))


def written(folder: Path, tokenizer: object, longest: int = 64) -> str:
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    config = f'{{"model_type": "llama", "max_position_embeddings": {longest}}}'
    (folder / "config.json").write_text(config)
    return str(folder)


def test_another_vocabulary_is_refused(tmp_path: Path):
    path = written(tmp_path, sentencepiece_tokenizer())
    with pytest.raises(ValueError, match=r"\(RewardModel\)\.learner\.model\.path is .* other ids"):
        model(path).reader(byte_level_tokenizer())


def test_an_estimator_compares_the_rewards_of_a_group():
    # Rewards 3 and 1: mean 2, standard deviation 1 (of the group), so advantages +-1.
    rollouts = [
        make_rollout(name, [[11, 12]], scores={"reward_model": RolloutScore(value=value)})
        for name, value in (("a", 3.0), ("b", 1.0))
    ]
    builder = GroupAdvantages(source="reward_model")
    assert "reward_model" in builder.sources
    samples = builder.samples([make_group(*rollouts)])
    first, second = (float(row[-1]) for row in samples.advantages)
    assert (first, second) == pytest.approx((1.0, -1.0), abs=1e-4)


@pytest.mark.parametrize("head", ["language_model", "two_token"])
def test_another_head_is_refused(head: str):
    with pytest.raises(ValueError, match=r"\(RewardModel\)\.learner\.head is .* must be 'token_cl"):
        RewardModel(learner=LearnerConfig(model=ModelConfig(path="/x"), head=head))  # type: ignore[arg-type]
