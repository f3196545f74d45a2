"""A configuration of a small run on a real model."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlstep.config import Config, LearnerConfig, ModelConfig
from rlstep.testing.small import small_config
from tests.run.run_kit import make_policy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_policy(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(model: str, tmp_path: Path) -> Config:
    """One that nothing is wrong with."""
    policy = LearnerConfig(model=ModelConfig(path=model))
    return small_config(policy=policy, run_dir=str(tmp_path / "runs"))
