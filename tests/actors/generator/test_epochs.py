"""One death is one recreation, and every request is answered once, whoever hears of the death and
when. Neither Ray nor an engine is started: deaths come by the thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.actors.learner.learner_group import LearnerLost
from rlstep.config import GeneratorConfig
from rlstep.rollouts.recoveries import WINDOW_S, Recoveries
from rlstep.types import Completion
from tests.actors.generator.group_kit import (
    Actor,
    Answer,
    Group,
    Learner,
    answered,
    requests,
    running,
    without_ray,
)
from tests.idle_clock import IdleClock

NOTHING = cast("Any", None)


def check(found: dict[str, Answer], stream: int, number: int = 6, version: int = 4) -> None:
    """Every request has its completions, by weights of that version or a later one."""
    assert set(found) == {f"{stream}/{i}" for i in range(number)}
    for answer in found.values():
        assert isinstance(answer, tuple) and len(answer) == 2
        assert all(completion.versions[0].version >= version for completion in answer)


async def turns(number: int = 12) -> None:
    """Of the event loop: far more than any of the stand-ins takes for one thing."""
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition: Any) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come")


# --- as a law ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    replicas: int
    streams: Sequence[tuple[int, int, int]]
    """Each begins after so many turns, with so many requests, and leaves after so many answers."""
    deaths: Sequence[tuple[int, int]]
    """After so many turns, of that replica (modulo their number)."""
    updates: Sequence[int]
    stillborn: frozenset[int]
    """Which successors, by their order, die while they start."""


_TURNS = st.integers(0, 120)
SCHEDULES = st.builds(
    Schedule,
    replicas=st.integers(1, 3),
    streams=st.lists(
        st.tuples(_TURNS, st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=4
    ),
    deaths=st.lists(st.tuples(_TURNS, st.integers(0, 2)), max_size=6),
    updates=st.lists(_TURNS, max_size=3),
    stillborn=st.frozensets(st.integers(0, 5), max_size=2),
)


class Played:
    """A schedule under way."""

    def __init__(self, schedule: Schedule, group: Group, sync: Any) -> None:
        self.schedule, self.group, self.sync = schedule, group, sync
        self.deaths = 0
        self.answered: set[str] = set()
        for actor in group.made:
            self.watch(actor)
        group.on_create = self.watch

    def watch(self, actor: Actor) -> None:
        actor.answered = self.answered
        if len(self.group.made) - 1 - self.schedule.replicas in self.schedule.stillborn:
            actor.on["start"] = lambda: self.end(actor)

    def end(self, actor: Actor) -> None:
        self.deaths += actor.alive
        actor.kill()

    async def die(self, after: int, replica: int) -> None:
        """Not in the middle of a transfer of weights, which costs the other engines too."""
        await turns(after)
        await until(lambda: not any(epoch.paused for epoch in self.group.epochs))
        self.end(self.group.actors[replica % self.schedule.replicas])

    async def update(self, after: int) -> None:
        await turns(after)
        await self.sync.update(NOTHING)

    async def ask(self, name: int, after: int, number: int, leaves: int) -> None:
        await turns(after)
        asked = requests(name, number)
        version, found = self.sync.version, {}
        async with aclosing(cast("Any", self.group.generate(asked))) as answers:
            async for request, answer in answers:
                assert request.request_id not in found, "answered twice"
                found[request.request_id] = answer
                self.answered.add(request.request_id)
                if len(found) == leaves:
                    return
        check(found, name, number)
        assert version <= self.sync.version


@settings(max_examples=150, deadline=None)
@given(schedule=SCHEDULES)
def test_one_death_is_one_recreation_and_every_request_is_answered_once(schedule: Schedule) -> None:
    async def play() -> None:
        with pytest.MonkeyPatch.context() as patch:
            async with running(patch, schedule.replicas, 1000) as (group, _, sync):
                played = Played(schedule, group, sync)
                await asyncio.gather(
                    *(played.die(*death) for death in schedule.deaths),
                    *(played.update(after) for after in schedule.updates),
                    *(played.ask(i, *stream) for i, stream in enumerate(schedule.streams)),
                )
                await sync.update(NOTHING)  # hears of those that nobody has asked since
                assert group.recoveries == played.deaths
                assert len(group.made) == schedule.replicas + played.deaths
                assert await group.versions() == [sync.version] * schedule.replicas
                assert not group._recovering and all(actor.alive for actor in group.actors)

    asyncio.run(play())


# --- one by one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("streams", [1, 2, 3])
async def test_however_many_streams_hear_of_it(
    monkeypatch: pytest.MonkeyPatch, replicas: int, streams: int
) -> None:
    async with running(monkeypatch, replicas) as (group, _, _):
        tasks = [asyncio.create_task(answered(group, requests(i))) for i in range(streams)]
        await turns(8)
        group.kill(0)
        for stream, found in enumerate(await asyncio.gather(*tasks)):
            check(found, stream)
        assert group.recoveries == 1 and len(group.made) == replicas + 1


async def test_a_stream_that_begins_while_the_successor_starts_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked sooner it would fail, having no engine yet, or answer with the first weights; and be
    taken for lost itself."""
    async with running(monkeypatch) as (group, _, _):
        first, late = asyncio.create_task(answered(group, requests(0))), []

        def begin() -> None:
            late.append(asyncio.create_task(answered(group, requests(1))))

        group.on_create = lambda actor: actor.on.update(start=begin)
        await turns(8)
        group.kill(0)
        check(await first, 0)
        check(await late[0], 1)
        assert group.recoveries == 1 and len(group.made) == 2


@pytest.mark.parametrize("streams", [0, 1, 3])
@pytest.mark.parametrize("replicas", [1, 2])
async def test_one_that_dies_while_the_learner_trains(
    monkeypatch: pytest.MonkeyPatch, replicas: int, streams: int
) -> None:
    async with running(monkeypatch, replicas) as (group, learner, sync):
        kept = group.actors[1:]

        async def die() -> None:
            tasks.extend(asyncio.create_task(answered(group, requests(i))) for i in range(streams))
            await turns(8)
            group.kill(0)
            await turns(8)  # the streams have heard of it

        tasks: list[asyncio.Task[Any]] = []
        learner.on["train"] = die
        await sync.update(NOTHING)
        for stream, found in enumerate(await asyncio.gather(*tasks)):
            check(found, stream)
        assert group.recoveries == 1 and group.actors[1:] == kept
        assert await group.versions() == [5] * replicas


async def test_one_that_dies_between_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, 2) as (group, _, sync):
        check(await answered(group, requests(0)), 0)
        group.kill(1)
        await sync.update(NOTHING)
        check(await answered(group, requests(1)), 1, version=5)
        assert group.recoveries == 1 and len(group.made) == 3


@pytest.mark.parametrize("verb", ["pause", "resume", "weight_version"])
async def test_one_that_dies_in_a_sync_but_not_in_its_transfer(
    monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    async with running(monkeypatch, 2) as (group, _, sync):
        group.actors[0].on[verb] = lambda: group.kill(0)
        await sync.update(NOTHING)
        assert group.recoveries == 1 and [actor.replica for actor in group.made] == [0, 1, 0]
        assert await group.versions() == [5, 5]


@pytest.mark.parametrize("moment", ["join_generators", "publish"])
async def test_one_that_dies_in_a_transfer_takes_the_others_with_it_at_one_recoverys_cost(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    async with running(monkeypatch, 2) as (group, learner, sync):

        async def die() -> None:
            group.kill(0)
            await group.actors[0].weight_version.remote()

        if moment == "join_generators":  # which there is after a recovery alone
            group.kill(1)
        learner.on[moment] = die
        tasks = [asyncio.create_task(answered(group, requests(i))) for i in range(2)]
        await sync.update(NOTHING)
        for stream, found in enumerate(await asyncio.gather(*tasks)):
            check(found, stream)
        lost = 1 + (moment == "join_generators")
        assert group.recoveries == lost and len(group.made) == 2 + 2 + lost - 1
        assert await group.versions() == [5, 5]


async def test_two_that_die_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, 3) as (group, _, _):
        kept = group.actors[1]
        tasks = [asyncio.create_task(answered(group, requests(i, 12))) for i in range(3)]
        await turns(8)
        group.kill(0)
        group.kill(2)
        for stream, found in enumerate(await asyncio.gather(*tasks)):
            check(found, stream, 12)
        assert group.recoveries == 2 and len(group.made) == 5 and group.actors[1] is kept


async def test_a_successor_that_dies_while_it_starts_has_a_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(monkeypatch) as (group, _, _):

        def doomed(actor: Actor) -> None:
            if len(group.made) < 4:
                actor.on["start"] = actor.kill

        group.on_create = doomed
        tasks = [asyncio.create_task(answered(group, requests(i))) for i in range(2)]
        await turns(8)
        group.kill(0)
        for stream, found in enumerate(await asyncio.gather(*tasks)):
            check(found, stream)
        assert group.recoveries == 3 and len(group.made) == 4


async def test_when_no_successor_starts_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so does whatever asks later: nobody waits for a replica that nobody starts."""
    async with running(monkeypatch) as (group, _, _):
        group.on_create = lambda actor: actor.on.update(start=actor.kill)
        tasks = [asyncio.create_task(answered(group, requests(i))) for i in range(2)]
        await turns(8)
        group.kill(0)
        found = await asyncio.gather(*tasks, answered(group, requests(2)), return_exceptions=True)
        found += await asyncio.gather(answered(group, requests(3)), return_exceptions=True)
        for error in found:
            assert isinstance(error, RuntimeError) and "generator 0 was lost" in str(error)
            assert "generator.max_recoveries = 3 are used up" in str(error)
        assert group.recoveries == 3 and len(group.made) == 4


@pytest.mark.parametrize("left", [0, 1])
async def test_who_leaves_in_the_middle_of_a_recovery_leaves_it_to_others(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    async with running(monkeypatch) as (group, _, _):
        tasks = [asyncio.create_task(answered(group, requests(i))) for i in range(1 + left)]

        def leave() -> None:
            tasks[0].cancel()

        group.on_create = lambda actor: actor.on.update(start=leave)
        await turns(8)
        group.kill(0)
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        if left:
            check(await tasks[1], 1)
        check(await answered(group, requests(7)), 7)
        assert group.recoveries == 1 and len(group.made) == 2


async def test_a_stop_in_the_middle_of_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch) as (group, _, _):
        asked = asyncio.create_task(answered(group, requests(0)))
        group.on_create = lambda actor: actor.moving.clear()  # it never starts
        await turns(8)
        group.kill(0)
        await until(lambda: len(group.made) == 2)
        [successor] = group.actors
        await group.settle()
        for asking in (asked, answered(group, requests(1))):
            with pytest.raises(RuntimeError, match="the generators are closed"):
                await asking
        successor.moving.set()
        await group.close()
        assert not successor.alive and len(group.made) == 2 and group.actors == []


async def test_an_update_that_is_left_in_the_middle_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(monkeypatch) as (group, _, sync):
        group.kill(0)
        started = asyncio.Event()
        group.on_create = lambda actor: actor.on.update(start=started.set)
        updating = asyncio.create_task(sync.update(NOTHING))
        await started.wait()
        updating.cancel()
        with suppress(asyncio.CancelledError):
            await updating
        check(await answered(group, requests(0)), 0, version=5)
        assert group.recoveries == 2  # one of them for what was left half started


async def test_late_answers_of_an_epoch_are_heard_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An actor that the network cut off lives on, and answers later."""
    async with running(monkeypatch) as (group, _, _):
        monkeypatch.setattr(Actor, "kill", lambda actor: None)
        tasks = [asyncio.create_task(answered(group, requests(i))) for i in range(2)]
        await turns(8)
        [cut_off] = group.epochs
        async with group.changing:
            await group.replace({0: TimeoutError("cut off")})
            cut_off.actor.version = 99
            await turns(40)
            assert group.on_recreated is not None
            await group.on_recreated()
        found = await asyncio.gather(*tasks)
        for stream, answers in enumerate(found):
            check(answers, stream)
            late = [a for a in answers.values() if isinstance(a, tuple) and version_of(a) == 99]
            assert not late
        assert cut_off.actor.alive and group.recoveries == 1


async def test_who_waits_for_an_epoch_that_ends_waits_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of an actor that the network cut off nothing comes any more, not even its death."""
    async with running(monkeypatch) as (group, _, _):
        clock = IdleClock()
        start = clock.now
        monkeypatch.setattr(Actor, "kill", lambda actor: None)
        tasks = [asyncio.create_task(answered(group, requests(i))) for i in range(2)]
        await turns(8)
        group.actors[0].moving.clear()
        await group.recover(group.epochs[0], TimeoutError("cut off"))
        for stream, found in enumerate(await asyncio.gather(*tasks)):
            check(found, stream)
        assert clock.now == start and group.recoveries == 1


async def test_in_an_evaluation_too_a_successor_that_dies_has_a_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no sync would hear of it: replicas have the weights from their folder."""

    async def none() -> None: ...

    def with_weights(actor: Actor) -> None:
        actor.version = 4
        if len(group.made) == 2:
            actor.on["start"] = actor.kill

    async with running(monkeypatch) as (group, _, _):
        group.on_recreated, group.on_create = none, with_weights
        group.kill(0)
        check(await answered(group, requests(0)), 0)
        assert group.recoveries == 2 and len(group.made) == 3


def version_of(answer: tuple[Completion, ...]) -> int:
    return answer[0].versions[0].version


async def test_a_poisoned_request_ends_the_run_when_the_recoveries_are_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(monkeypatch) as (group, _, _):
        group.on_create = lambda actor: actor.on.update(generate=lambda: poison(actor))

        def poison(actor: Actor) -> None:
            actor.on["generate"] = actor.kill  # after the probe

        group.kill(0)
        with pytest.raises(RuntimeError, match="max_recoveries = 3 are used up"):
            await answered(group, requests(0))
        assert group.recoveries == 3


# --- the budget ----------------------------------------------------------------------------------


def test_recoveries_are_counted_within_an_hour() -> None:
    """Two are allowed: at 0 and 10 s; at 20 s not; the first one is forgotten 3,600 s later."""
    now, cause = [0.0], OSError("out of memory")
    spent = Recoveries("generator.max_recoveries", lambda: now[0])
    for now[0] in (0.0, 10.0):
        spent.spend(2, "generator 1 was lost", cause)
    for now[0] in (20.0, WINDOW_S - 0.1):
        with pytest.raises(
            RuntimeError,
            match=r"^generator 1 was lost: out of memory \(generator\.max_recoveries = 2 are used"
            r" up, within 60 minutes\)$",
        ):
            spent.spend(2, "generator 1 was lost", cause)
    assert spent.total == 2
    for now[0] in (WINDOW_S, WINDOW_S + 10.0):  # what was refused does not count
        spent.spend(2, "generator 1 was lost", cause)
    assert spent.total == 4
    with pytest.raises(RuntimeError, match="max_recoveries = 0"):
        Recoveries("generator.max_recoveries").spend(0, "generator 0 was lost", cause)


async def test_a_long_run_may_lose_more_than_it_may_in_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(monkeypatch, max_recoveries=1) as (group, _, _):
        now = [0.0]
        group.spent = Recoveries("generator.max_recoveries", lambda: now[0])
        for hour in range(5):
            now[0] = hour * WINDOW_S
            group.kill(0)
            check(await answered(group, requests(hour)), hour)
        assert group.recoveries == 5
        group.kill(0)
        with pytest.raises(RuntimeError, match="max_recoveries = 1 are used up"):
            await answered(group, requests(9))


# --- at the start --------------------------------------------------------------------------------


async def test_one_that_does_not_start_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the others do: they may load for minutes yet."""
    without_ray(monkeypatch)
    group = Group(GeneratorConfig(replicas=2))
    group.on_create = lambda actor: (
        actor.on.update(start=actor.kill) if actor.replica else actor.moving.clear()
    )
    with pytest.raises(RuntimeError, match="generator 1 died before its first answer"):
        await group.start()
    assert len(group.made) == 2 and group.recoveries == 0


async def test_one_that_dies_between_its_start_and_the_first_sync_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A learner may take longer to load, and is not to be blamed."""
    async with running(monkeypatch, 2) as (group, learner, sync):
        fresh = type(sync)(cast("Any", learner), group, np.arange(70, dtype=np.int32), 0)
        group.kill(1)
        told = "the first weight sync failed: generator 1 was lost"
        with pytest.raises(RuntimeError, match=told):
            await fresh.start(0)
        assert group.recoveries == 0 and len(group.made) == 2


@pytest.mark.parametrize("at", ["train", "join_generators", "publish", "predict"])
async def test_nothing_of_an_update_that_is_undone_is_handed_on(
    monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """A learner is lost in the middle of one, and another one has the weights of version 4. What an
    engine wrote by version 5, which nobody has compared, is held, and asked again."""
    async with running(monkeypatch) as (group, learner, sync):
        (engine,) = group.made
        complete, gate = engine._complete, asyncio.Event()

        async def completing(request: Any) -> Any:
            await (turns(0) if request.request_id.startswith("probe") else gate.wait())
            return await complete(request)

        async def lost() -> None:
            gate.set()
            await turns()
            raise LearnerLost("learner 'policy' rank 0")

        monkeypatch.setattr(engine, "_complete", completing)
        stream = asyncio.create_task(answered(group, requests(0)))
        await turns()
        learner.on[at], sync._joined = lost, []
        with pytest.raises(LearnerLost):
            await sync.update(NOTHING)
        await sync.rejoin(cast("Any", Learner(group)), 4)
        found = await stream
        check(found, 0)
        answers = [each for answer in found.values() for each in cast("Any", answer)]
        assert {span.version for each in answers for span in each.versions} == {4}
        assert sync.version == 4 and group.recoveries == 0
