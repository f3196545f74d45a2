"""Frozen PRMs on vLLM's pooling engine: the scores of the Hugging Face forward."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.actors.learner_group import LearnerGroup
from rlstep.actors.pooling import PoolingGroup, check_architecture
from rlstep.actors.step_models import StepModelRole
from rlstep.config import LearnerConfig, ModelConfig, PoolingConfig
from rlstep.scoring.frozen_prm import FrozenPrm
from rlstep.scoring.math_shepherd import MathShepherdLayout
from rlstep.scoring.qwen_math_prm import QwenMathPrmLayout
from rlstep.types import Failure, Rollout, Score, StepScores
from tests.actors.prm_kit import ROLLOUTS, classifier, math_shepherd, qwen_math_prm, ragged
from tests.real_tokenizers import byte_level_tokenizer
from tests.solutions import qwen_like, solution

pytestmark = pytest.mark.timeout(300)

ENGINE = PoolingConfig(context=128, kv_cache_mib=32)
LONG = solution("Why?", *["Because it is so, as I have said before. " * 4] * 4, name="long")


def config(path: str, head: Any) -> LearnerConfig:
    return LearnerConfig(model=ModelConfig(path=path), head=head, threads=1, token_budget=200)


async def scores(prm: FrozenPrm, policy: Any, rollouts: list[Rollout]) -> tuple[Any, list[Score]]:
    """Predictions of random ids, and the scores of rollouts, by the engine that it names."""
    learner = (
        await LearnerGroup.start(prm.learner, None, name="prm", seed=0, deadline_s=240.0)
        if prm.engine is None
        else await PoolingGroup.start(prm.learner, prm.engine, name="prm", deadline_s=240.0)
    )
    try:
        role = StepModelRole(prm, learner, prm.reader(policy))
        return await learner.predict(ragged(20_000)), await role.score(rollouts, 0)
    finally:
        await learner.close()


async def both_engines(prm: FrozenPrm, policy: Any, rollouts: list[Rollout]) -> list[Any]:
    return await asyncio.gather(
        scores(prm, policy, rollouts), scores(replace(prm, engine=ENGINE), policy, rollouts)
    )


def same(ours: tuple[Any, list[Score]], theirs: tuple[Any, list[Score]]) -> list[Score]:
    for mine, row in zip(ours[0], theirs[0], strict=True):
        assert row.dtype == np.float32 and np.abs(mine - row).max() < 1e-4
    for mine, score in zip(ours[1], theirs[1], strict=True):
        if isinstance(mine, StepScores):
            assert isinstance(score, StepScores)
            assert np.abs(mine.values - score.values).max() < 1e-4
        else:
            assert score == mine
    return theirs[1]


async def test_math_shepherd_scores_alike_on_both_engines(ray_cluster, tmp_path: Path):
    learner = config(math_shepherd(tmp_path), "two_token")
    prm = FrozenPrm(learner=learner, layout=MathShepherdLayout())
    found = same(*await both_engines(prm, byte_level_tokenizer(), [*ROLLOUTS, LONG]))
    assert [len(s.values) for s in found[:-1] if isinstance(s, StepScores)] == [2, 3, 1]
    assert isinstance(found[-1], Failure) and found[-1].reason == "too_long"
    values = np.concatenate([s.values for s in found[:-1] if isinstance(s, StepScores)])
    assert values.std() > 0.05


async def test_qwen_math_prm_scores_alike_on_both_engines(ray_cluster, tmp_path: Path):
    learner = config(qwen_math_prm(tmp_path), "process_reward")
    prm = FrozenPrm(learner=learner, layout=QwenMathPrmLayout())
    found = same(*await both_engines(prm, byte_level_tokenizer(), [*ROLLOUTS, LONG]))
    assert [type(s) for s in found] == [StepScores] * 3 + [Failure]
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("head", "labels"), [("token_classification", 1), ("two_label", 2)])
async def test_linear_heads_score_alike_on_both_engines(
    ray_cluster, tmp_path: Path, head: str, labels: int
):
    prm = FrozenPrm(learner=config(classifier(tmp_path, labels), head))
    found = same(*await both_engines(prm, qwen_like(), ROLLOUTS))
    assert [type(s) for s in found] == [StepScores] * 3


@pytest.mark.slow
async def test_replicas_share_the_sequences(ray_cluster, tmp_path: Path):
    prm = FrozenPrm(learner=config(classifier(tmp_path, 1), "token_classification"))
    two = replace(prm, engine=replace(ENGINE, replicas=2))
    one, other = await asyncio.gather(
        scores(prm, qwen_like(), ROLLOUTS), scores(two, qwen_like(), ROLLOUTS)
    )
    same(one, other)


def test_a_folder_without_the_head_is_refused(tmp_path: Path):
    path = math_shepherd(tmp_path)
    check_architecture(config(path, "two_token"))
    for head in ("token_classification", "two_label", "process_reward"):
        with pytest.raises(ValueError, match=rf"head is '{head}', but .*a MistralForCausalLM, no"):
            check_architecture(config(path, head))


async def test_a_late_replica_is_named():
    class Verb:
        async def remote(self, *_: Any) -> Any:
            return await asyncio.Event().wait()

    class Actor:
        predict = Verb()

    group = PoolingGroup("prm", [Actor()], 0.05)
    with pytest.raises(TimeoutError, match=r"pooling 'prm' replica 0: predict did not finish"):
        await group.predict(ragged(100, 2))
