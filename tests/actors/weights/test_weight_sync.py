"""Weights reach the generators exactly: the parity cover, the silent traps, lost replicas."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.weight_sync import WeightSync
from tests.actors.families import make_family
from tests.actors.learner.learner_kit import pair_samples
from tests.actors.weights.sync_kit import (
    LONGEST,
    PROBE,
    completions,
    generator_config,
    learner_group,
    local_learner,
    parity_error,
    part_of,
    request,
    update,
)
from tests.waiting import gone, wait_for


@pytest.mark.parametrize(
    ("tied", "zero_stage", "ranks", "replicas"),
    [  # every pair of values of every two factors, but tied ones in two replicas
        (True, 0, 1, 1),
        pytest.param(True, 3, 2, 1, marks=pytest.mark.slow),
        pytest.param(False, 0, 2, 2, marks=pytest.mark.slow),
        pytest.param(False, 3, 1, 2, marks=pytest.mark.slow),
        pytest.param(False, 3, 2, 1, marks=pytest.mark.slow),
    ],
)
async def test_after_a_sync_generators_and_learner_agree(
    engines: dict[bool, GeneratorGroup],
    models: dict[bool, str],
    tied: bool,
    zero_stage: int,
    ranks: int,
    replicas: int,
) -> None:
    group = GeneratorGroup(generator_config(replicas=2), models[tied], {})
    if replicas == 1:
        group = part_of(engines[tied], 1)
    else:
        await group.start()
    async with learner_group(models[tied], zero_stage=zero_stage, world_size=ranks) as learner:
        sync = WeightSync(learner, group, PROBE, LONGEST)
        await sync.start(0)
        before = await group.probe(PROBE, 8, f"before/{tied}{zero_stage}{ranks}{replicas}")
        metrics = await sync.update(pair_samples())
        assert metrics["updates"] == 1.0
        assert metrics["sync/parity_error"] <= 1e-4
        assert await group.versions() == [1] * replicas
        after = await group.probe(PROBE, 8, f"after/{tied}{zero_stage}{ranks}{replicas}")
        for rank in learner.actors:  # importing it takes seconds
            assert not await rank.__ray_call__.remote(lambda _: "vllm" in sys.modules)
    for old, new in zip(before, after, strict=True):  # the update is no small one
        assert np.abs(old.logprobs[0] - new.logprobs[0]) > 1e-2
    if replicas == 2:
        await group.close()


@pytest.mark.slow
async def test_the_experts_of_a_mixture_are_packed_again(ray_cluster: None, tmp_path: Path) -> None:
    """Padded as well: the CPU engine packs them by 32."""
    path = make_family(tmp_path, "Qwen3Moe", vocab_size=48, moe_intermediate_size=40)
    group = GeneratorGroup(generator_config(), path, {})
    await group.start()
    with local_learner(path) as learner:
        await asyncio.to_thread(
            learner.join_generators, group.actors, "rlstep_gloo", "float32", 1, 60.0, 30.0
        )
        for version in (1, 2):
            update(learner)
            await group.pause()
            await asyncio.to_thread(learner.publish, version)
            await group.resume()
            group.admit()
            [answer] = await group.probe(PROBE, 8, f"experts {version}")
            assert parity_error(learner, PROBE, answer) <= 1e-4
    await group.close()


async def test_without_the_cache_reset_the_probe_sees_old_keys_and_values(
    engines: dict[bool, GeneratorGroup], models: dict[bool, str]
) -> None:
    group = part_of(engines[False], 1)
    with local_learner(models[False]) as learner:
        await asyncio.to_thread(
            learner.join_generators, group.actors, "rlstep_gloo", "float32", 1, 60.0, 30.0
        )
        await group.pause()
        await asyncio.to_thread(learner.publish, 1)
        await group.resume()
        group.admit()
        await group.probe(PROBE, 8, "fills the cache")
        update(learner)
        await asyncio.to_thread(learner.publish, 2)  # no pause, so no reset
        [answer] = await group.probe(PROBE, 8, "old cache")
        assert parity_error(learner, PROBE, answer) > 1e-2

        await group.pause()
        await group.resume()
        group.admit()
        [answer] = await group.probe(PROBE, 8, "no cache")
        assert parity_error(learner, PROBE, answer) <= 1e-4


async def test_a_completion_that_lives_through_a_sync_knows_who_wrote_each_token(
    engines: dict[bool, GeneratorGroup], models: dict[bool, str]
) -> None:
    group = part_of(engines[False], 1)
    with local_learner(models[False]) as learner:
        await asyncio.to_thread(
            learner.join_generators, group.actors, "rlstep_gloo", "float32", 1, 60.0, 30.0
        )
        await group.pause()
        await asyncio.to_thread(learner.publish, 5)
        await group.resume()
        group.admit()
        asked = request("long", PROBE[:40], max_tokens=60, min_tokens=60)
        running = asyncio.create_task(completions(group, asked))
        spans = ()
        while not running.done():  # sync as often as it takes to hit it
            update(learner)
            await group.pause()
            await asyncio.to_thread(learner.publish, learner.updates + 5)
            await group.resume()
            group.admit()
            await asyncio.sleep(0)
        [answer] = await running
        spans = answer.versions
        assert len(spans) >= 2, "no sync fell into 60 tokens"
        assert [span.start for span in spans] + [60] == [0] + [span.end for span in spans]
        versions = [span.version for span in spans]
        assert versions == sorted(set(versions))


@pytest.mark.slow
async def test_a_lost_replica_is_recreated_synced_and_probed(
    engines: dict[bool, GeneratorGroup], models: dict[bool, str]
) -> None:
    """And its engine's processes end with it."""
    group = engines[True]
    process = psutil.Process(await group.actors[0].process_id.remote())
    engine_processes = process.children(recursive=True)
    assert engine_processes
    lost = group.actors[0]
    async with learner_group(models[True]) as learner:
        sync = WeightSync(learner, group, PROBE, LONGEST)
        await sync.start(0)
        await sync.update(pair_samples())
        asked = [
            request(f"r{i}", [5 + i % 9, 6, 7], max_tokens=150, min_tokens=150, n=4)
            for i in range(40)
        ]
        found = {}
        async for item, answer in group.generate(asked):
            if not found:
                process.kill()
            assert item.request_id not in found, "answered twice"
            found[item.request_id] = answer
        assert set(found) == {item.request_id for item in asked}
        assert all(isinstance(answer, tuple) for answer in found.values())
        assert group.recoveries == 1 and group.actors[0] is not lost
        assert await group.versions() == [1]
        assert sync.max_parity_error <= 1e-4
        wait_for(gone(p.pid for p in engine_processes), "end of the engine")


async def test_a_sync_that_keeps_failing_ends_the_run_with_the_generators_name(
    engines: dict[bool, GeneratorGroup], models: dict[bool, str]
) -> None:
    group = part_of(engines[True], 1)
    group.config = generator_config(parity_tolerance=0.0, max_recoveries=0)
    async with learner_group(models[True]) as learner:
        sync = WeightSync(learner, group, PROBE, LONGEST)
        with pytest.raises(RuntimeError, match="generator 0: logprobs differ"):
            await sync.start(0)
            for _ in range(20):  # a difference of exactly 0 is possible, but not forever
                await sync.update(pair_samples())
