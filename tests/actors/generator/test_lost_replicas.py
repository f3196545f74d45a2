"""Replicas that die while several streams and a sync use them: one death, one recovery, every
request answered once. The engines are stand-ins, Ray and its actors are real."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import ray

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.weight_sync import WeightSync
from rlstep.config import GeneratorConfig
from rlstep.types import Completion, Failure, Request, Sampling
from tests.actors.generator.group_kit import PROBE, Learner
from tests.actors.stand_ins import HELD, Engine
from tests.waiting import gone, wait_for


def rare(value: object) -> Any:
    """A case of the family that `make test-slow` runs: every actor is a process."""
    return pytest.param(value, marks=pytest.mark.slow)


class Group(GeneratorGroup):
    created = 0
    ends_in = ""

    def _create(self, replica: int) -> Any:
        self.created += 1
        first = self.created <= self.config.replicas
        options = {"num_cpus": 0, "max_concurrency": 100}
        self.config = replace(self.config, deadline_s=300.0)  # its start may take longer
        return ray.remote(Engine).options(**options).remote(first, self.ends_in)


@asynccontextmanager
async def running(
    replicas: int = 1, max_recoveries: int = 3
) -> AsyncIterator[tuple[Group, Learner, WeightSync]]:
    """Replicas that have been synced once."""
    group = Group(GeneratorConfig(replicas=replicas, max_recoveries=max_recoveries), "", {})
    await group.start()
    learner = Learner(group)
    sync = WeightSync(cast(Any, learner), group, PROBE, 0)
    try:
        await sync.start(4)
        yield group, learner, sync
    finally:
        for actor in group.actors:
            ray.kill(actor)


def requests(stream: int, number: int = 6) -> list[Request]:
    """Every second one is held by a replica's first actor."""
    prefix = np.array([1, 2, 3], np.int32)
    return [
        Request(
            request_id=f"{stream}/{i}",
            prefix_ids=prefix,
            n=2,
            seed=i % 2,
            sampling=Sampling(max_tokens=3),
        )
        for i in range(number)
    ]


async def answered(
    group: Group, stream: int, begun: asyncio.Event
) -> dict[str, tuple[Completion, ...] | Failure]:
    """All answers to one stream of requests; `begun` after the first."""
    found: dict[str, tuple[Completion, ...] | Failure] = {}
    async for request, answer in group.generate(requests(stream)):
        assert request.request_id not in found, "answered twice"
        found[request.request_id] = answer
        begun.set()
    return found


async def begin(group: Group, streams: int) -> list[asyncio.Task[Any]]:
    """Streams that are all under way."""
    events = [asyncio.Event() for _ in range(streams)]
    tasks = [asyncio.create_task(answered(group, i, event)) for i, event in enumerate(events)]
    await asyncio.gather(*(event.wait() for event in events))
    return tasks


async def finish(tasks: list[asyncio.Task[Any]]) -> None:
    """Every request has its two completions, whoever died meanwhile."""
    for stream, found in enumerate(await asyncio.gather(*tasks)):
        assert set(found) == {request.request_id for request in requests(stream)}
        assert all(isinstance(answer, tuple) and len(answer) == 2 for answer in found.values())


def end(group: Group, *replicas: int) -> None:
    for replica in replicas:
        ray.kill(group.actors[replica])


@pytest.mark.parametrize("replicas", [rare(1), 2])
@pytest.mark.parametrize("streams", [rare(1), 2, rare(3)])
async def test_one_death_is_one_recovery_however_many_streams_hear_of_it(
    ray_cluster: None, replicas: int, streams: int
) -> None:
    """At lag 0 there is one stream of rollouts (and others of continuations and judgments), at lag
    1 two."""
    async with running(replicas) as (group, _, sync):
        before = list(group.actors)
        tasks = await begin(group, streams)
        end(group, *range(replicas))
        await finish(tasks)
        assert group.recoveries == replicas and group.created == 2 * replicas
        assert not set(before) & set(group.actors)
        assert await group.versions() == [4] * replicas == [sync.version] * replicas


@pytest.mark.slow
async def test_the_other_replica_lives_on(ray_cluster: None) -> None:
    async with running(2) as (group, _, _):
        kept, fast = group.actors[1], [r for r in requests(0, 20) if r.seed != HELD]
        end(group, 0)
        assert len([item async for item in group.generate(fast)]) == 10
        assert group.actors[1] is kept and group.recoveries == 1


@pytest.mark.parametrize("replicas", [1, rare(2)])
@pytest.mark.parametrize("moment", [rare("train"), "publish", rare("predict")])
async def test_a_death_during_an_update_with_a_batch_under_way(
    ray_cluster: None, moment: str, replicas: int
) -> None:
    """At lag 1 the next batch is collected while the policy is trained and sent: both a stream and
    the sync hear of the death."""
    async with running(replicas) as (group, learner, sync):
        tasks = await begin(group, 2)

        async def die() -> None:
            end(group, 0)

        learner.on[moment] = die
        metrics = await sync.update(cast(Any, None))
        alone = moment != "publish"  # in the middle of which a death costs the others too
        if alone:
            end(group, *range(1, replicas))  # which would hold their requests for ever
        await finish(tasks)
        assert metrics["sync/parity_error"] == 0.0
        assert group.recoveries == (replicas if alone else 1)
        assert await group.versions() == [5] * replicas


@pytest.mark.slow
async def test_a_replica_that_dies_again_is_recreated_again(ray_cluster: None) -> None:
    async with running() as (group, _, _):
        for number in (1, 2, 3):
            fast = [request for request in requests(0) if request.seed != HELD]
            end(group, 0)
            found = [answer async for _, answer in group.generate(fast)]
            assert len(found) == 3 and all(isinstance(answer, tuple) for answer in found)
            assert group.recoveries == number


@pytest.mark.parametrize("streams", [rare(1), 2])
async def test_when_recoveries_are_used_up_the_run_ends(ray_cluster: None, streams: int) -> None:
    async with running(max_recoveries=0) as (group, _, _):
        tasks = await begin(group, streams)
        end(group, 0)
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(found, RuntimeError) and "generator 0 was lost" in str(found)
            assert "generator.max_recoveries = 0 are used up" in str(found)


# --- before the first answer ---------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, rare(2)])
@pytest.mark.parametrize(
    ("ends_in", "cause"),
    [("start", "head size 24 cannot be served"), ("start, without a word", "died unexpectedly")],
)
async def test_what_does_not_start_is_not_started_again(
    ray_cluster: None, replicas: int, ends_in: str, cause: str
) -> None:
    group = Group(GeneratorConfig(replicas=replicas), "", {})
    group.ends_in = ends_in
    with pytest.raises(
        RuntimeError, match=r"generator [01] died before its first answer"
    ) as caught:
        await group.start()
    assert cause in str(caught.value) and group.created == replicas and group.recoveries == 0


async def test_a_successor_that_does_not_start_ends_the_run_with_its_cause(
    ray_cluster: None,
) -> None:
    async with running() as (group, _, _):
        tasks = await begin(group, 2)
        group.ends_in = "start"
        end(group, 0)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [error for error in found if isinstance(error, RuntimeError)]
        assert "head size 24 cannot be served" in str(errors[0])
        assert "generator.max_recoveries = 3 are used up" in str(errors[0]) and group.created == 4


async def test_the_first_sync_is_tried_once(ray_cluster: None) -> None:
    group = Group(GeneratorConfig(), "", {})
    await group.start()
    learner = Learner(group)

    async def refuse() -> None:
        raise RuntimeError("lm_head.weight: the engine has no such parameter")

    learner.on["publish"] = refuse
    with pytest.raises(RuntimeError, match=r"the first weight sync failed: lm_head\.weight"):
        await WeightSync(cast(Any, learner), group, PROBE, 0).start(0)
    assert group.created == 1 and group.recoveries == 0
    await group.close()


@pytest.mark.slow
async def test_a_replica_lost_before_any_sync_is_named(ray_cluster: None) -> None:
    group = Group(GeneratorConfig(), "", {})
    await group.start()
    end(group, 0)
    with pytest.raises(RuntimeError, match="generator 0 died before its first answer"):
        await anext(group.generate(requests(0)))


@pytest.mark.parametrize("dead", [(0,), rare((1,)), rare((0, 1))])
async def test_a_lost_replica_does_not_stop_the_end_of_a_run(
    ray_cluster: None, dead: tuple[int, ...]
) -> None:
    async with running(2) as (group, _, _):
        end(group, *dead)
        await group.close()
        assert group.actors == []


@pytest.mark.slow
async def test_a_process_that_stands_still_is_given_up_and_ended(ray_cluster: None) -> None:
    """It gives no sign of life within a probe, and is killed although it cannot hear of it."""
    async with running() as (group, _, _):
        process = await group.actors[0].process_id.remote()
        group.config = replace(group.config, deadline_s=3.0)
        tasks = await begin(group, 2)
        os.kill(process, signal.SIGSTOP)
        await finish(tasks)
        assert group.recoveries == 1 and group.created == 2
        wait_for(gone([process]), "end of the process")
