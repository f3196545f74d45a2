"""Which silence of a generator is a failure: that of an engine that stands still, and not that of
one with a long queue. Time is a clock that stands still while anything happens."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlstep.actors.generator.generator import watch_steps
from rlstep.rollouts.progress import PROBE_S, Progress
from rlstep.running.watchdog import Stalled, watched
from tests.actors.generator.group_kit import Actor, Group, answered, requests, running
from tests.actors.generator.test_epochs import check, turns
from tests.idle_clock import IdleClock

DEADLINE_S = 300.0


def slow(actor: Actor) -> None:
    """Each answer takes 1,000 s; in between the engine makes a step every 50 s."""
    complete = actor._complete

    async def completing(request: Any) -> Any:
        for _ in range(20):
            await asyncio.sleep(50.0)
            actor.progress.made()
        return await complete(request)

    actor._complete = completing


@pytest.mark.parametrize("streams", [1, 3])
async def test_a_long_queue_on_a_healthy_engine_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """Its first answer takes 1,000 s, more than three deadlines."""
    async with running(monkeypatch, deadline_s=DEADLINE_S) as (group, _, _):
        clock = IdleClock()
        start = clock.now
        slow(group.actors[0])
        asking = (answered(group, requests(i, 1)) for i in range(streams))
        for stream, found in enumerate(await asyncio.gather(*asking)):
            check(found, stream, 1)
        assert clock.now - start == pytest.approx(1000.0) and group.recoveries == 0


async def test_whoever_watches_a_run_sees_that_an_engine_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An evaluation's only answer takes 1,000 s, and a run is given up after less."""
    async with running(monkeypatch, deadline_s=DEADLINE_S) as (group, _, _):
        IdleClock()
        slow(group.actors[0])
        signs = lambda: group.signs  # noqa: E731
        await watched(cast(Any, answered(group, requests(0, 1))), signs, 2 * DEADLINE_S + 60.0)
        assert group.recoveries == 0


async def test_a_paused_engine_is_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, deadline_s=DEADLINE_S) as (group, _, _):
        IdleClock()
        await group.pause()
        asking, signs = answered(group, requests(0, 1)), lambda: group.signs
        with pytest.raises(Stalled):
            await watched(cast(Any, asking), signs, 10 * DEADLINE_S)
        await group.resume()


async def test_a_long_queue_before_a_probe_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs goes on when the new weights are there, and the probe waits behind it."""
    async with running(monkeypatch, deadline_s=DEADLINE_S) as (group, _, sync):
        IdleClock()
        slow(group.actors[0])
        await sync.update(cast("Any", None))
        assert group.recoveries == 0


@pytest.mark.parametrize("streams", [1, 3])
async def test_an_engine_that_stands_still_is_found_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """Its process answers, and says that nothing is done."""
    async with running(monkeypatch, deadline_s=DEADLINE_S) as (group, _, _):
        clock = IdleClock()
        start = clock.now
        group.actors[0].forgets = {f"{i}/2" for i in range(streams)}
        asking = (answered(group, requests(i)) for i in range(streams))
        for stream, found in enumerate(await asyncio.gather(*asking)):
            check(found, stream)
        assert clock.now - start == pytest.approx(DEADLINE_S) and group.recoveries == 1


async def test_a_frozen_process_is_found_within_the_deadline_and_a_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(monkeypatch, deadline_s=DEADLINE_S) as (group, _, _):
        clock = IdleClock()
        start, frozen = clock.now, group.actors[0]
        asking = asyncio.create_task(answered(group, requests(0)))
        await turns(8)
        frozen.moving.clear()
        check(await asking, 0)
        assert clock.now - start == pytest.approx(DEADLINE_S + PROBE_S)
        frozen.moving.set()  # and what it says then is heard by nobody
        await turns(40)
        assert group.recoveries == 1 and not frozen.alive


async def test_a_process_that_stands_still_for_a_while_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(monkeypatch, deadline_s=DEADLINE_S) as (group, _, _):
        IdleClock()
        asking = asyncio.create_task(answered(group, requests(0)))
        await turns(8)
        group.actors[0].moving.clear()
        await asyncio.sleep(DEADLINE_S - 1.0)
        group.actors[0].moving.set()
        check(await asking, 0)
        assert group.recoveries == 0


async def test_a_pause_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that take 1,000 s to arrive, and a replica whose successor starts meanwhile."""
    async with running(monkeypatch, 2, deadline_s=DEADLINE_S) as (group, learner, sync):
        IdleClock()
        kept = group.actors[1]

        async def long() -> None:
            group.kill(0)

        async def load(actor: Actor) -> None:
            await asyncio.sleep(DEADLINE_S - 1.0)
            actor.started = True

        async def arrive() -> None:
            await asyncio.sleep(1000.0)

        monkeypatch.setattr(Actor, "do_start", load)
        learner.on |= {"train": long, "publish": arrive}
        asking = asyncio.create_task(answered(group, requests(0, 12)))
        await turns(8)
        await sync.update(cast("Any", None))
        check(await asking, 0, 12)
        assert group.recoveries == 1 and group.actors[1] is kept


@pytest.mark.parametrize("verb", ["pause", "resume", "weight_version"])
async def test_one_that_is_frozen_in_a_sync(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    async with running(monkeypatch, 2, deadline_s=DEADLINE_S) as (group, _, sync):
        IdleClock()
        kept = group.actors[1]
        group.actors[0].on[verb] = group.actors[0].moving.clear
        await sync.update(cast("Any", None))
        assert group.recoveries == 1 and group.actors[1] is kept
        assert await group.versions() == [5, 5]


async def test_frozen_engines_do_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are asked to close at once, and those that do not are ended a minute later."""
    async with running(monkeypatch, 4, deadline_s=DEADLINE_S) as (group, _, _):
        clock = IdleClock()
        start, made = clock.now, cast("Group", group).made
        for actor in made[:3]:
            actor.moving.clear()
        await group.close()
        assert clock.now - start == pytest.approx(60.0) and made[3].closed
        assert not any(actor.alive for actor in made)


def test_every_step_of_an_engine_is_progress() -> None:
    """Idle for 5 s, then a step, then for 2 s."""
    now = [10.0]
    progress, stepped = Progress(lambda: now[0]), []

    def process_outputs(*arguments: Any, **named: Any) -> str:
        stepped.append((arguments, named))
        return "outputs"

    engine = SimpleNamespace(output_processor=SimpleNamespace(process_outputs=process_outputs))
    watch_steps(engine, progress)
    now[0] = 15.0
    assert progress.idle_s() == 5.0
    assert engine.output_processor.process_outputs([1], 2.0, weight_version="3") == "outputs"
    assert stepped == [(([1], 2.0), {"weight_version": "3"})] and progress.idle_s() == 0.0
    now[0] = 17.0
    assert progress.idle_s() == 2.0
