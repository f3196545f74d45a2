"""A real Ray cluster, one for all tests of this room."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Ray 2.60 turns token authentication on where it starts a cluster, with a token that it leaves in
# the home directory. Said explicitly, and before ray is imported, every process agrees.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[None]:
    """Ends with the tests of actors: it takes a tenth of a core while nobody asks it."""
    import ray

    ray.init(
        address="local",  # whatever else runs on this machine
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 << 20,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.actors.learner.learner_kit import make_model

    return make_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.actors.learner.learner_kit import make_model

    return make_model(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, str]:
    """Models that the engine serves (its CPU attention needs heads of 32), by tied embeddings. Of
    the tied one's words two are special tokens, w5 and w6."""
    from tests.actors.learner.learner_kit import make_model

    return {
        tied: make_model(
            tmp_path_factory.mktemp(f"tied-{tied}"),
            tied=tied,
            hidden=128,
            special=("w5", "w6") if tied else (),
        )
        for tied in (True, False)
    }


@pytest.fixture(scope="package")
def engines(ray_cluster: None, models: dict[bool, str]) -> Iterator[dict[bool, Any]]:
    """A GeneratorGroup of one replica of either model; w5 is a tag."""
    import ray

    from rlstep.actors.generator.generator_group import GeneratorGroup
    from tests.actors.weights.sync_kit import generator_config

    groups = {
        tied: GeneratorGroup(generator_config(), path, {}, tags=["w5"])
        for tied, path in models.items()
    }

    async def start() -> None:
        await asyncio.gather(*(group.start() for group in groups.values()))

    asyncio.run(start())
    yield groups
    for group in groups.values():
        for actor in group.actors:
            ray.kill(actor)
