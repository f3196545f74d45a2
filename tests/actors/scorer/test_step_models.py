"""How a run scores with, and trains, its step models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.config import LearnerConfig, ModelConfig, PoolingConfig
from rlstep.interfaces import Reader, StepInputs, StepModel
from rlstep.losses.step_label import StepLabelLoss
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.prm import Prm
from rlstep.scoring.step_models.reward_model import RewardModel
from rlstep.tensors.inputs import own_inputs, tagged
from rlstep.types import Failure, Rollout, RolloutScore, Samples, StepScores, TokenIds
from tests.builders import make_counts, make_rollout

LEARNER = LearnerConfig(model=ModelConfig(path="/nowhere"), head="two_token")
PRM = Prm(learner=LEARNER, loss=StepLabelLoss())
ROLLOUT = make_rollout("r", [[11, 12], [13]], scores={"monte_carlo": make_counts([4, 4], [3, 0])})
LONG = replace(ROLLOUT, rollout_id="long")


@dataclass
class FakeLearner:
    """Predicts each token's id / 100, so that it is seen which token was read."""

    asked: list[list[int]] = field(default_factory=list)
    trained: list[Samples] = field(default_factory=list)

    async def predict(self, sequences: Sequence[TokenIds], *, log_ratios: bool = False) -> Any:
        self.asked += [row.tolist() for row in sequences]
        return [(row / 100).astype(np.float32) for row in sequences]

    async def train(self, samples: Samples) -> dict[str, float]:
        self.trained.append(samples)
        return {"updates": 1.0}


def role(model: StepModel, read: Reader | None = None) -> tuple[StepModelRole, Any]:
    learner: Any = FakeLearner()
    return StepModelRole(model, learner, read), learner


def with_tags(rollout: Rollout) -> StepInputs | Failure:
    """Tag 50 behind every step; the rollout LONG is too long."""
    if rollout is LONG:
        return Failure(reason="too_long")
    ids = rollout.completion.token_ids
    steps = [ids[s.start : s.end].tolist() for s in rollout.steps]
    return tagged(rollout.prompt.token_ids.tolist(), steps, 50)


async def test_own_tokens_are_read_at_the_steps_ends():
    scorer, learner = role(PRM)
    [scores] = await scorer.score([ROLLOUT], 3)
    assert learner.asked == [[1, 2, 11, 12, 13]]
    # sigmoid(0.12) = 0.529964, sigmoid(0.13) = 0.532454
    assert isinstance(scores, StepScores) and scores.version == 3
    assert scores.values.tolist() == pytest.approx([0.529964, 0.532454], abs=1e-6)


async def test_tags_are_read_where_they_stand_and_failures_keep_their_place(caplog):
    scorer, learner = role(PRM, with_tags)
    first, failed, last = await scorer.score([ROLLOUT, LONG, ROLLOUT], 0)
    assert learner.asked == [[1, 2, 11, 12, 50, 13, 50]] * 2
    assert failed == Failure(reason="too_long")
    assert "prm: 1 of 3 rollouts could not be read: {'too_long': 1}" in caplog.text
    for scores in (first, last):  # sigmoid(0.5) = 0.622459, at both tags
        assert isinstance(scores, StepScores)
        assert scores.values.tolist() == pytest.approx([0.622459] * 2, abs=1e-6)


async def test_nothing_is_asked_where_nothing_can_be_read():
    scorer, learner = role(PRM, with_tags)
    assert await scorer.score([LONG], 0) == [Failure(reason="too_long")] and learner.asked == []


async def test_a_reader_is_never_in_two_threads_at_once():
    """It changes its tokenizer's settings while it reads."""
    inside, together = threading.Lock(), threading.Event()

    def read(rollout: Rollout) -> StepInputs | Failure:
        if not inside.acquire(blocking=False):
            together.set()
            return with_tags(rollout)
        together.wait(0.05)  # time for another to come in
        inside.release()
        return with_tags(rollout)

    both, _ = role(PRM, read)
    await asyncio.gather(
        both.score([ROLLOUT], 0), both.score([ROLLOUT], 0), both.train([ROLLOUT], 0)
    )
    assert not together.is_set()


async def test_a_layouts_labels_are_trained_at_its_tags():
    trainer, learner = role(PRM, with_tags)
    assert await trainer.train([ROLLOUT, LONG], 0) == {"updates": 1.0}
    [samples] = learner.trained
    [sequence] = samples.sequences
    assert sequence.token_ids.tolist() == [1, 2, 11, 12, 50, 13, 50]
    assert np.flatnonzero(sequence.loss_mask).tolist() == [4, 6]
    assert samples.targets[0][[4, 6]].tolist() == [0.75, 0.0]


@pytest.mark.parametrize(
    ("every", "updates"), [(1, [1, 1, 1, 1, 1, 1]), (2, [0, 1] * 3), (3, [0, 0, 1] * 2)]
)
async def test_a_model_is_trained_in_every_so_many_th_iteration(every: int, updates: list[int]):
    trainer, learner = role(replace(PRM, every=every))
    made = []
    for iteration in range(6):
        # At a lag rollouts of another iteration may stand in the batch: theirs does not count.
        metrics = await trainer.train([replace(ROLLOUT, iteration=0)], iteration)
        made.append(int(metrics.get("updates", 0.0)))
    assert made == updates and len(learner.trained) == sum(updates)


async def test_a_reward_model_scores_whole_rollouts_at_their_last_token():
    model = RewardModel(learner=replace(LEARNER, head="token_classification"))
    longer = make_rollout("s", [[11], [12, 13], [14]])
    scorer, learner = role(model, own_inputs)
    first, second = await scorer.score([ROLLOUT, longer], 0)
    assert learner.asked == [[1, 2, 11, 12, 13], [1, 2, 11, 12, 13, 14]]
    assert isinstance(first, RolloutScore) and first.value == pytest.approx(0.13)
    assert isinstance(second, RolloutScore) and second.value == pytest.approx(0.14)
    assert await scorer.train([ROLLOUT], 0) == {} and learner.trained == []


async def test_a_frozen_model_is_never_trained():
    trainer, learner = role(FrozenPrm(learner=LEARNER))
    assert await trainer.train([ROLLOUT], 0) == {} and learner.trained == []
    trainer, learner = role(FrozenPrm(learner=LEARNER, engine=PoolingConfig()))
    assert await trainer.train([ROLLOUT], 0) == {} and learner.trained == []
