"""Turns on their way to an environment's replica: many in a call, each with an answer of its own.

The actors stand in this process, so that a test says what each of them does, and when.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from rlstep.actors.scorer import scorer_group
from rlstep.actors.scorer.scorer import ScorerWorker
from rlstep.actors.scorer.scorer_group import ScorerGroup
from rlstep.config import ScorerConfig
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.types import Action, Failure, History, Observation
from tests.builders import make_prompt, make_rollout
from tests.environments.awkward import Awkward
from tests.idle_clock import IdleClock

Play = Callable[[list[History]], AsyncIterator[list[Any]]]
"""What a worker's `observe` is asked, and what it yields."""


def history(name: str, *words: str) -> History:
    actions = tuple(Action(text=word, token_ids=()) for word in words or ("a",))
    return History(episode_id=name, prompt=make_prompt(), seed=0, actions=actions)


def said(history: History) -> Observation:
    return Observation(text=history.episode_id)


async def at_once(histories: list[History]) -> AsyncIterator[list[Any]]:
    yield [(i, said(history)) for i, history in enumerate(histories)]


async def backwards(histories: list[History]) -> AsyncIterator[list[Any]]:
    for i in reversed(range(len(histories))):
        yield [(i, said(histories[i]))]


async def half_then_dies(histories: list[History]) -> AsyncIterator[list[Any]]:
    yield [(i, said(histories[i])) for i in range(1, len(histories), 2)]
    raise ActorDiedError()


async def dies(histories: list[History]) -> AsyncIterator[list[Any]]:
    raise ActorDiedError()
    yield []


async def hangs(histories: list[History]) -> AsyncIterator[list[Any]]:
    await asyncio.Event().wait()
    yield []


class Verb:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class Actor:
    """As Ray shows one: a call gives a stream of things to wait for."""

    def __init__(self, play: Play) -> None:
        self.asked: list[list[History]] = []
        self.left: list[list[History]] = []

        async def stream(histories: list[History]) -> AsyncIterator[Any]:
            self.asked.append(histories)
            loop = asyncio.get_running_loop()
            async for ready in play(histories):
                arrived = loop.create_future()
                arrived.set_result(ready)
                yield arrived

        async def nothing(items: list[Any] | None = None) -> list[Any]:
            return [Failure(reason="nothing")] * len(items or [])

        self.observe, self.leave = Verb(stream), Verb(self.left.append)
        self.verify = self.close = Verb(nothing)
        self.idle_s = Verb(works)


class Group(ScorerGroup):
    """Its actors play what the entries say, one actor after the other; those after them at once."""

    def __init__(self, *plays: Play, replicas: int = 1) -> None:
        self.plays, self.created = plays, list[Actor]()
        config = ScorerConfig(replicas=replicas, deadline_s=600.0)
        super().__init__(config, ExactAnswer(pattern=r"(\d+)"), [], {}, Awkward())

    def _create(self, replica: int) -> Any:
        number = len(self.created)
        self.created.append(Actor(self.plays[number] if number < len(self.plays) else at_once))
        return self.created[-1]


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    monkeypatch.setattr(scorer_group.ray, "kill", lambda *_: done.append("kill"))
    monkeypatch.setattr(scorer_group.ray, "cancel", lambda *_: done.append("cancel"))
    return done


async def asked(group: Group, *names: str) -> list[Observation | Failure]:
    try:
        return await asyncio.gather(*(group.observe(history(name)) for name in names))
    finally:
        await group.close()


NAMES = [f"e{i}" for i in range(9)]
ALL = [Observation(text=name) for name in NAMES]


@pytest.mark.parametrize("play", [at_once, backwards])
async def test_what_is_asked_in_one_turn_of_the_loop_is_one_call(play: Play) -> None:
    group = Group(play)
    assert await asked(group, *NAMES) == ALL
    assert [[h.episode_id for h in call] for call in group.created[0].asked] == [NAMES]


async def test_replicas_are_asked_for_their_own_episodes() -> None:
    group = Group(replicas=3)
    assert await asked(group, *NAMES) == ALL
    homes = [{h.episode_id for call in actor.asked for h in call} for actor in group.created]
    assert set.union(*homes) == set(NAMES) and sum(map(len, homes)) == len(NAMES)
    assert all(len(actor.asked) <= 1 for actor in group.created)


async def test_episodes_of_one_affinity_have_one_replica() -> None:
    group = Group(replicas=3)
    together = [replace(history(name), affinity="parent") for name in NAMES]
    await asyncio.gather(*map(group.observe, together))
    for each in together:
        group.leave(each)
    await asyncio.sleep(0)
    assert sorted(len(actor.asked) for actor in group.created) == [0, 0, 1]
    assert [actor.left for actor in group.created if actor.asked] == [[together]]


async def test_leaving_does_not_wait_and_travels_together() -> None:
    group = Group()
    for name in NAMES:
        group.leave(history(name))
    assert not group.created[0].left
    await asyncio.sleep(0)
    assert [[h.episode_id for h in call] for call in group.created[0].left] == [NAMES]


async def test_one_answer_is_there_before_the_others() -> None:
    gate = asyncio.Event()

    async def one_first(histories: list[History]) -> AsyncIterator[list[Any]]:
        yield [(3, said(histories[3]))]
        await gate.wait()
        yield [(i, said(h)) for i, h in enumerate(histories) if i != 3]

    group = Group(one_first)
    waiting = [asyncio.ensure_future(group.observe(history(name))) for name in NAMES]
    assert await waiting[3] == ALL[3] and not any(w.done() for w in waiting if w != waiting[3])
    gate.set()
    assert await asyncio.gather(*waiting) == ALL
    await group.close()


async def test_what_a_lost_replica_left_unanswered_is_asked_once_more() -> None:
    group = Group(half_then_dies)
    assert await asked(group, *NAMES) == ALL
    assert [[h.episode_id for h in call] for call in group.created[1].asked] == [NAMES[::2]]


async def test_what_two_replicas_were_lost_on_is_a_failure_each() -> None:
    group = Group(half_then_dies, dies)
    answers = await asked(group, *NAMES)
    assert answers[1::2] == ALL[1::2]
    for failure in answers[::2]:
        assert isinstance(failure, Failure) and failure.reason == "scorer_lost"
        assert failure.detail.startswith("scorer 0: ")


async def stands_still() -> float:
    """From the beginning of the clock on."""
    return asyncio.get_running_loop().time()


async def frozen() -> float:
    return await asyncio.Event().wait() or 0.0


async def works() -> float:
    return 0.5


async def silent(items: list[Any]) -> list[Any]:
    await asyncio.Event().wait()
    return []


@pytest.mark.parametrize("verb", ["observe", "verify"])
@pytest.mark.parametrize(
    ("idle_s", "found_after"),
    [
        (frozen, 60.0 + 600.0 + 30.0),  # a deadline, and a probe
        (stands_still, 60.0 + 600.0 + 2 * 600.0),  # a process may have been started
    ],
)
async def test_a_replica_that_gets_nothing_done_is_replaced(
    without_ray: list[str], verb: str, idle_s: Any, found_after: float
) -> None:
    group, clock = Group(hangs), IdleClock()
    clock.now = 0.0
    group.created[0].idle_s, group.created[0].verify = Verb(idle_s), Verb(silent)
    if verb == "observe":
        assert await asked(group, *NAMES) == ALL
        assert "cancel" in without_ray
    else:
        await group.verify([make_rollout("a", [[11], [42]])])
        await group.close()
    assert len(group.created) == 2 and clock.now == pytest.approx(found_after)


async def test_a_long_queue_at_a_replica_that_works_is_waited_for() -> None:
    """100,000 s for nine answers, each of which may take 600 s."""

    async def late(histories: list[History]) -> AsyncIterator[list[Any]]:
        await asyncio.sleep(100_000.0)
        yield [(i, said(history)) for i, history in enumerate(histories)]

    group, clock = Group(late), IdleClock()
    start = clock.now
    group.created[0].idle_s = Verb(works)
    assert await asked(group, *NAMES) == ALL
    assert len(group.created) == 1 and clock.now - start == pytest.approx(100_000.0)
    assert group.signs > 100_000.0 / 1320.0  # whoever watches the run sees it


async def test_replicas_that_do_not_close_are_ended_together(without_ray: list[str]) -> None:
    group, clock = Group(replicas=3), IdleClock()
    start = clock.now
    for actor in group.created:
        actor.close = Verb(frozen)
    await group.close()
    assert without_ray == ["kill"] * 3 and clock.now - start == pytest.approx(60.0)


async def test_who_leaves_early_stops_nobody() -> None:
    gate = asyncio.Event()

    async def gated(histories: list[History]) -> AsyncIterator[list[Any]]:
        await gate.wait()
        yield [(i, said(h)) for i, h in enumerate(histories)]

    group = Group(gated)
    first, second = (asyncio.ensure_future(group.observe(history(name))) for name in "ab")
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == Observation(text="b")
    await group.close()


async def test_a_workers_own_error_is_raised_to_who_asked() -> None:
    class Pool:
        async def observe(self, history: History) -> Any:
            raise RuntimeError("ours")

    worker = ScorerWorker.__new__(ScorerWorker)
    worker._episodes, worker._asked = Pool(), 0  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="ours"):
        [ready async for ready in worker.observe([history("a"), history("b")])]


async def test_a_worker_hands_out_what_is_ready_together() -> None:
    gate = asyncio.Event()

    class Pool:
        async def observe(self, history: History) -> Any:
            if history.episode_id == "late":
                await gate.wait()
            return said(history)

    worker = ScorerWorker.__new__(ScorerWorker)
    worker._episodes, worker._asked = Pool(), 0  # type: ignore[assignment]
    stream = worker.observe([history("a"), history("late"), history("c")])
    assert [index for index, _ in await anext(stream)] == [0, 2]
    gate.set()
    assert await anext(stream) == [(1, Observation(text="late"))]
