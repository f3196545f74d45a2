"""Frozen PRMs and teachers in vLLM: the scores of the Hugging Face forward."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.actors.learner.frozen_rank import FrozenRank
from rlstep.actors.learner.heads import check_architecture
from rlstep.actors.scorer.pooling import PoolingGroup
from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.config import LearnerConfig, ModelConfig, PoolingConfig
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.math_shepherd import MathShepherdLayout
from rlstep.scoring.step_models.qwen_math_prm import QwenMathPrmLayout
from rlstep.scoring.step_models.teacher import Teacher
from rlstep.types import Failure, Rollout, Score, StepScores, TokenIds, TokenScores
from tests.actors.learner.prm_kit import (
    ROLLOUTS,
    apart,
    classifier,
    frozen,
    math_shepherd,
    qwen_math_prm,
    ragged,
    rows,
)
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from tests.solutions import qwen_like, solution

ENGINE = PoolingConfig(context=128, kv_cache_mib=32)
LONG = solution("Why?", *["Because it is so, as I have said before. " * 4] * 4, name="long")


def config(path: str, head: Any) -> LearnerConfig:
    return LearnerConfig(model=ModelConfig(path=path), head=head, threads=1, token_budget=200)


class Forward:
    """A Hugging Face forward in this process, for what calls a learner."""

    def __init__(self, rank: FrozenRank) -> None:
        self.rank = rank

    async def predict(self, sequences: Sequence[TokenIds], *, log_ratios: bool = False) -> Any:
        return rows(self.rank.predict(sequences, log_ratios))


async def both_engines(
    prm: FrozenPrm | Teacher, policy: Any, rollouts: list[Rollout], engine: PoolingConfig = ENGINE
) -> list[Score]:
    """vLLM's scores of the rollouts, once they and its predictions of random ids are found to be
    those of the Hugging Face forward."""
    pooled, ids = replace(prm, engine=engine), ragged(20_000)
    group = await PoolingGroup.start(prm.learner, engine, name="prm", deadline_s=1200.0)
    try:
        with frozen(prm.learner) as rank:
            forward: Any = Forward(rank)
            mine = await StepModelRole(prm, forward, prm.reader(policy)).score(rollouts, 0)
            theirs = await StepModelRole(pooled, group, pooled.reader(policy)).score(rollouts, 0)
            assert apart(rows(rank.predict(ids)), await group.predict(ids)) < 1e-4
    finally:
        await group.close()
    for one, other in zip(mine, theirs, strict=True):
        if isinstance(one, StepScores | TokenScores) and isinstance(other, type(one)):
            assert apart([one.values], [other.values]) < 1e-4
        else:
            assert one == other
    return theirs


@pytest.mark.slow
async def test_math_shepherd_scores_alike_on_both_engines(ray_cluster, tmp_path: Path):
    learner = config(math_shepherd(tmp_path), "two_token")
    prm = FrozenPrm(learner=learner, layout=MathShepherdLayout())
    found = await both_engines(prm, byte_level_tokenizer(), [*ROLLOUTS, LONG])
    assert isinstance(found[-1], Failure) and found[-1].reason == "too_long"
    values = [score.values for score in found if isinstance(score, StepScores)]
    assert [len(row) for row in values] == [2, 3, 1] and np.concatenate(values).std() > 0.05


@pytest.mark.slow
async def test_qwen_math_prm_scores_alike_on_both_engines(ray_cluster, tmp_path: Path):
    learner = config(qwen_math_prm(tmp_path), "process_reward")
    prm = FrozenPrm(learner=learner, layout=QwenMathPrmLayout())
    found = await both_engines(prm, byte_level_tokenizer(), [*ROLLOUTS, LONG])
    assert [type(score) for score in found] == [StepScores] * 3 + [Failure]
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "labels", "replicas"), [("token_classification", 1, 1), ("two_label", 2, 2)]
)
async def test_linear_heads_score_alike_on_both_engines(
    ray_cluster, tmp_path: Path, head: str, labels: int, replicas: int
):
    prm = FrozenPrm(learner=config(classifier(tmp_path, labels), head))
    engine = replace(ENGINE, replicas=replicas)
    found = await both_engines(prm, qwen_like(), ROLLOUTS, engine)
    assert [type(score) for score in found] == [StepScores] * 3


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_teacher_scores_alike_on_both_engines(ray_cluster, tmp_path: Path, replicas: int):
    """By the logprobs of its prompt, the first and the last token included."""
    teacher = Teacher(learner=config(math_shepherd(tmp_path), "language_model"))
    engine = replace(ENGINE, replicas=replicas)
    found = await both_engines(teacher, sentencepiece_tokenizer(), ROLLOUTS, engine)
    values = [score.values for score in found if isinstance(score, TokenScores)]
    assert len(values) == 3 and np.concatenate(values).std() > 0.1


def test_a_folder_without_the_head_is_refused(tmp_path: Path):
    path = math_shepherd(tmp_path)
    for head in ("two_token", "language_model"):
        check_architecture(config(path, head))
    for head in ("token_classification", "two_label", "process_reward"):
        with pytest.raises(ValueError, match=rf"head is '{head}', but .*a MistralForCausalLM, no"):
            check_architecture(config(path, head))


class Silent:
    async def remote(self, *_: Any) -> Any:
        return await asyncio.Event().wait()


class Idle:
    async def remote(self) -> float:
        return 7.0


@pytest.mark.parametrize("idle", [Silent, Idle])
async def test_a_replica_that_gets_nothing_done_is_named(idle: type):
    class Actor:
        predict, idle_s = Silent(), idle()

    group = PoolingGroup("prm", [Actor()], 0.05)
    with pytest.raises(TimeoutError, match=r"pooling 'prm' replica 0: predict did nothing"):
        await group.predict(ragged(100, 2))
