"""What a dry run estimates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from rlstep.commands.plan import frozen_bytes, learner_bytes, parameters, reference_bytes, rows
from rlstep.config import (
    GeneratorConfig,
    LearnerConfig,
    LoraConfig,
    ModelConfig,
    PlacementConfig,
    PoolingConfig,
)
from rlstep.optimizers.sgd_sai import SgdSai
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.testing.small import small_config

M = 1_000_000


def needed(dtype: Literal["float32", "bfloat16"], stage: Any, **fields: Any) -> float:
    """Bytes of one of two ranks, for 1M parameters that are all trained."""
    config = LearnerConfig(
        model=ModelConfig(path="/nowhere", dtype=dtype), world_size=2, zero_stage=stage, **fields
    )
    return learner_bytes(config, M, M)


@pytest.mark.parametrize(
    ("dtype", "stage", "megabytes"),
    [
        # bfloat16: weights 2, gradients 2, and 12 of the optimizer (fp32 weights and two moments)
        ("bfloat16", 0, 2 + 2 + 12),
        ("bfloat16", 1, 2 + 2 + 12 / 2),
        ("bfloat16", 2, 2 + 2 / 2 + 12 / 2),
        ("bfloat16", 3, 2 / 2 + 2 / 2 + 12 / 2),
        # float32: weights 4, gradients 4, and 8 (the two moments alone)
        ("float32", 0, 4 + 4 + 8),
        ("float32", 1, 4 + 4 + 8 / 2),
        ("float32", 2, 4 + 4 / 2 + 8 / 2),
        ("float32", 3, 4 / 2 + 4 / 2 + 8 / 2),
    ],
)
def test_learner_bytes(dtype: Any, stage: int, megabytes: float):
    assert needed(dtype, stage) == megabytes * M


def test_a_frozen_reference_is_one_more_copy_of_the_weights():
    assert needed("bfloat16", 0, reference="initial") == (2 + 2 + 12 + 2) * M
    assert needed("bfloat16", 3, reference="initial") == (1 + 1 + 6 + 1) * M


def test_an_offloaded_optimizer_needs_no_memory_of_the_device():
    assert needed("bfloat16", 2, offload_optimizer=True) == (2 + 1) * M


def test_an_optimizer_with_fewer_moments_keeps_less():
    # float32: weights 4, gradients 4, one moment 4; bfloat16: 2, 2, and a moment and fp32 weights.
    assert needed("float32", 0, optimizer=SgdSai()) == (4 + 4 + 4) * M
    assert needed("bfloat16", 1, optimizer=SgdSai()) == (2 + 2 + 8 / 2) * M
    assert needed("float32", 0, optimizer=SgdSai(momentum=0.0)) == (4 + 4) * M


def test_under_lora_only_the_adapters_have_gradients_and_states():
    model = ModelConfig(path="/nowhere", dtype="bfloat16", lora=LoraConfig(rank=8))
    config = LearnerConfig(model=model, reference="initial")
    # 10M parameters of 2 bytes, 1M of them adapters of 2 + 12 more; the reference is the same
    # model with the adapters switched off.
    assert learner_bytes(config, 10 * M, M) == (10 * 2 + 2 + 12) * M


def test_a_reference_model_is_its_weights_or_a_share_of_them():
    teacher = ModelConfig(path="/other", dtype="bfloat16")
    config = LearnerConfig(
        model=ModelConfig(path="/nowhere"), reference="model", reference_model=teacher, world_size=2
    )
    # 3M parameters of 2 bytes, whatever the learner's own are; spread over two ranks at ZeRO-3.
    assert reference_bytes(config, 3 * M) == 6 * M
    assert reference_bytes(replace(config, zero_stage=3), 3 * M) == 3 * M
    alone = replace(config, reference="initial", reference_model=None)
    assert reference_bytes(alone, 0) == 0.0
    # The learner itself holds no copy of its start then: 4 + 4 + 8 bytes a parameter.
    assert learner_bytes(config, M, M) == 16 * M


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama of hidden size 8, one layer, 2 heads of 4, feed-forward 16, 18 tokens, untied."""
    folder = tmp_path_factory.mktemp("model")
    config = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 18,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


# Embeddings and head 2 * 18 * 8 = 288, attention 4 * 8 * 8 = 256, feed-forward 3 * 8 * 16 = 384,
# three norms of 8 = 24.
SIZE = 288 + 256 + 384 + 24


def test_parameters_are_counted_without_weights(model: str):
    assert parameters(ModelConfig(path=model)) == (SIZE, SIZE)


def test_adapters_are_counted(model: str):
    # Rank 2: 2 * (8 + 8) for each of the two projections.
    lora = LoraConfig(rank=2, target_modules=("q_proj", "v_proj"))
    assert parameters(ModelConfig(path=model, lora=lora)) == (SIZE + 64, 64)


def test_a_model_that_is_not_at_hand_is_unknown(tmp_path: Path):
    assert parameters(ModelConfig(path=str(tmp_path / "none"))) is None
    assert parameters(ModelConfig(path=str(tmp_path))) is None  # a folder without config.json


def test_rows_by_role(model: str):
    config = small_config(
        policy=LearnerConfig(model=ModelConfig(path=model), world_size=2),
        generator=GeneratorConfig(context=128, replicas=3, kv_cache_mib=256),
        placement=PlacementConfig(generator_gpus=0.5, policy_gpus=1),
    )
    assert rows(config) == [
        ("generator", "3", "0.5", "952", "0.25"),  # the cache; 952 weights are nothing
        ("policy learner", "2", "1", "952", "0.00"),
        ("scorer", "1", "0", "-", "unknown"),
    ]


def test_the_row_of_a_learner_that_has_a_teacher(model: str, tmp_path: Path):
    def row(teacher: str) -> tuple[str, ...]:
        reference = {"reference": "model", "reference_model": ModelConfig(path=teacher)}
        policy = LearnerConfig(model=ModelConfig(path=model), **reference)  # type: ignore[arg-type]
        return rows(small_config(policy=policy))[1]

    assert row(model) == ("policy learner", "1", "0", "952", "0.00")
    assert row(str(tmp_path / "none")) == ("policy learner", "1", "0", "952", "unknown")


def test_a_frozen_model_is_its_weights_alone(model: str):
    learner = LearnerConfig(
        model=ModelConfig(path=model, dtype="bfloat16"), head="two_token", world_size=2
    )
    frozen = FrozenPrm(learner=learner, source="a")
    engine = PoolingConfig(replicas=3, kv_cache_mib=512)
    pooling = FrozenPrm(learner=learner, engine=engine, source="b")
    config = small_config(step_models=(frozen, pooling))
    assert rows(config)[2:4] == [
        ("a (frozen)", "2", "0", "952", "0.00"),
        ("b (pooling)", "3", "0", "952", "0.50"),  # the cache
    ]
    # bfloat16: 2 bytes a parameter, whole or on two ranks, or on four GPUs of one engine.
    sharded = replace(frozen, learner=replace(learner, zero_stage=3))
    split = replace(pooling, engine=replace(engine, tensor_parallel_size=4))
    assert [frozen_bytes(each, M) for each in (frozen, sharded, split)] == [2 * M, M, M / 2]
