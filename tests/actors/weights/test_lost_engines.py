"""One of two real engines is killed, or stands still, with two streams open as at lag 1: exactly
one recreation, no request lost, and nothing of what was lost lives on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psutil
import pytest

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.weight_sync import WeightSync
from tests.actors.learner.learner_kit import pair_samples
from tests.actors.weights.sync_kit import (
    LONGEST,
    PROBE,
    generator_config,
    learner_group,
    request,
)
from tests.waiting import gone, wait_for

pytestmark = pytest.mark.slow

QUIET_S = 15.0
"""The deadline under which engines stand still; they start under a longer one."""


class Group(GeneratorGroup):
    def _create(self, replica: int) -> Any:
        self.config = generator_config(replicas=2)
        return super()._create(replica)


@asynccontextmanager
async def serving(model: str) -> AsyncIterator[tuple[Group, WeightSync, list[psutil.Process]]]:
    """Two replicas at version 0, and the processes of the first: its actor, then its engine."""
    group = Group(generator_config(replicas=2), model, {})
    try:
        await group.start()
        async with learner_group(model) as learner:
            sync = WeightSync(learner, group, PROBE, LONGEST)
            await sync.start(0)
            actor = psutil.Process(await group.actors[0].process_id.remote())
            below = actor.children(recursive=True)
            below.sort(key=lambda process: "EngineCore" not in " ".join(process.cmdline()))
            yield group, sync, [actor, *below]
    finally:
        await group.close()


async def streams(group: Group) -> list[asyncio.Task[Any]]:
    """Two that are under way; each has requests for either replica."""

    async def ask(stream: int, begun: asyncio.Event) -> dict[str, Any]:
        settings: Any = {"max_tokens": 150, "min_tokens": 150, "n": 4}
        asked = [request(f"{stream}/{i}", [5 + i, 6, 7], **settings) for i in range(30)]
        found: dict[str, Any] = {}
        async for item, answer in group.generate(asked):
            assert item.request_id not in found, "answered twice"
            found[item.request_id] = answer
            begun.set()
        return found

    events = [asyncio.Event() for _ in range(2)]
    tasks = [asyncio.create_task(ask(stream, event)) for stream, event in enumerate(events)]
    await asyncio.gather(*(event.wait() for event in events))
    return tasks


async def check(group: Group, kept: Any, version: int, tasks: list[asyncio.Task[Any]]) -> None:
    for stream, found in enumerate(await asyncio.gather(*tasks)):
        assert set(found) == {f"{stream}/{i}" for i in range(30)}
        assert all(isinstance(answer, tuple) and len(answer) == 4 for answer in found.values())
    assert group.recoveries == 1 and group.actors[1] is kept
    assert await group.versions() == [version, version]


@pytest.mark.parametrize("learning", [False, True])
async def test_one_that_is_killed(
    ray_cluster: None, models: dict[bool, str], learning: bool
) -> None:
    """While it serves alone, and while the learner trains."""
    async with serving(models[True]) as (group, sync, processes):
        kept, tasks = group.actors[1], await streams(group)
        if learning:
            updating = asyncio.create_task(sync.update(pair_samples()))
            await asyncio.sleep(0)  # it trains
            processes[0].kill()
            assert (await updating)["sync/parity_error"] <= 1e-4
        else:
            processes[0].kill()
        await check(group, kept, int(learning), tasks)
        wait_for(gone(process.pid for process in processes), "end of the engine")


@pytest.mark.parametrize("which", [0, 1])
async def test_one_that_stands_still(
    ray_cluster: None, models: dict[bool, str], which: int
) -> None:
    """The actor's process, which then gives no sign of life, or its engine's."""
    async with serving(models[True]) as (group, _, processes):
        group.config = replace(group.config, deadline_s=QUIET_S)
        kept, tasks = group.actors[1], await streams(group)
        os.kill(processes[which].pid, signal.SIGSTOP)
        await check(group, kept, 0, tasks)
        wait_for(gone(process.pid for process in processes), "end of the engine")
