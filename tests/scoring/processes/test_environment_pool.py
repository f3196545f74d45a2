"""Episodes in processes of their own: what goes wrong in one is a value, and touches no other."""

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

from rlstep.scoring.processes import environment_pool
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.types import Action, Failure, History, Observation
from tests.builders import make_prompt
from tests.environments.awkward import Awkward, Broken, OnlyOnce
from tests.waiting import gone, wait_for


def history(name: str, *words: str) -> History:
    actions = tuple(Action(text=word, token_ids=(i, 7)) for i, word in enumerate(words))
    return History(episode_id=name, prompt=make_prompt(), seed=5, actions=actions)


@asynccontextmanager
async def pool(environment: Any = None, **fields: Any) -> AsyncIterator[EnvironmentPool]:
    made = EnvironmentPool(environment or Awkward(), **{"deadline_s": 30.0, **fields})
    try:
        yield made
    finally:
        pids = made.pids()
        await made.close()
        wait_for(gone(pids), "the end of every process")


async def test_a_conversation_and_its_replay_read_alike():
    async with pool() as episodes:
        words = ["a", "b", "c"]
        told = [await episodes.observe(history("x", *words[: k + 1])) for k in range(3)]
        assert told[1] == Observation(text="42/5:2:b:[1, 7]", reward=1.0)
        replayed = await episodes.observe(history("another", *words))
        assert replayed == told[2]
        end = await episodes.observe(history("x", *words, "stop"))
        assert end == Observation(text="42/5:4:stop:[3, 7]", reward=2.0, done=True, success=True)


async def test_an_episode_that_was_left_begins_anew():
    async with pool() as episodes:
        await episodes.observe(history("x", "a"))
        await episodes.leave("x")
        assert (await episodes.observe(history("x", "a"))).text == "42/5:1:a:[0, 7]"  # type: ignore[union-attr]
        await episodes.leave("never seen")


async def test_an_episode_that_cannot_be_let_go_of_holds_up_nobody():
    async with pool(deadline_s=3.0) as episodes:
        await episodes.observe(history("mate", "a"))
        await episodes.observe(history("bad", "stuck"))
        before = episodes.pids()
        await episodes.leave("bad")
        again = await episodes.observe(history("mate", "a", "b"))  # replayed elsewhere
        assert again == Observation(text="42/5:2:b:[1, 7]", reward=1.0)
        assert episodes.pids() != before


async def test_a_machine_without_room_for_a_process_is_a_failure(monkeypatch: Any):
    def full(*_: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(environment_pool, "start_process", full)
    async with pool() as episodes:
        failed = await episodes.observe(history("x", "a"))
        assert isinstance(failed, Failure) and failed.reason == "crashed"
        assert "Cannot allocate memory" in failed.detail
        monkeypatch.undo()
        assert isinstance(await episodes.observe(history("x", "a")), Observation)


@pytest.mark.parametrize(
    ("word", "reason", "detail"),
    [
        ("raise", "crashed", "ZeroDivisionError"),
        ("nan", "bad_observation", "reward is nan (float), not a finite number"),
        ("shape", "bad_observation", "reward is [1.0, 2.0] (list), not a finite number"),
        ("long", "bad_observation", "text has 10000000 characters; the most are 100000"),
        ("none", "bad_observation", "observe returned NoneType, not Observation"),
        ("number", "bad_observation", "text is int, not a string"),
        ("done", "bad_observation", "done is str, not True or False"),
    ],
)
async def test_what_goes_wrong_is_a_failure_of_its_own(word: str, reason: str, detail: str):
    async with pool() as episodes:
        good, bad = await asyncio.gather(
            episodes.observe(history("good", "a")), episodes.observe(history("bad", word))
        )
        assert isinstance(bad, Failure) and bad.reason == reason and detail in bad.detail
        before = episodes.pids()
        assert isinstance(good, Observation)
        assert isinstance(await episodes.observe(history("good", "a", "b")), Observation)
        assert episodes.pids() == before  # nobody's process ended


async def test_a_step_that_hangs_takes_no_other_with_it():
    async with pool(deadline_s=3.0) as episodes:
        await episodes.observe(history("mate", "a"))
        hanging, mate = await asyncio.gather(
            episodes.observe(history("bad", "hang")), episodes.observe(history("mate", "a", "b"))
        )
        assert hanging == Failure(reason="timeout", detail="no observation within 3 s")
        assert mate == Observation(text="42/5:2:b:[1, 7]", reward=1.0)
        again = await episodes.observe(history("mate", "a", "b", "c"))  # replayed
        assert again == Observation(text="42/5:3:c:[2, 7]", reward=1.5)


async def test_a_step_that_ends_its_process_takes_no_other_with_it():
    async with pool() as episodes:
        names = [f"mate{i}" for i in range(5)]
        await asyncio.gather(*(episodes.observe(history(n, "a")) for n in names))
        ended, *mates = await asyncio.gather(
            episodes.observe(history("bad", "end")),
            *(episodes.observe(history(n, "a", "b")) for n in names),
        )
        assert isinstance(ended, Failure) and ended.reason == "crashed"
        assert ended.detail == "the environment's process ended: exit status 3"
        assert mates == [Observation(text="42/5:2:b:[1, 7]", reward=1.0)] * 5


async def test_what_a_turn_started_ends_with_its_process():
    name = f"{make_prompt().answer}/{os.getpid()}"

    def left() -> list[int]:
        return [
            p.pid for p in psutil.process_iter(["cmdline"]) if name in (p.info["cmdline"] or ())
        ]

    async with pool() as episodes:
        failed = await episodes.observe(replace(history("x", "child"), seed=os.getpid()))
        assert isinstance(failed, Failure) and failed.reason == "crashed"
        wait_for(lambda: not left(), "the end of what was started")


async def test_what_cannot_be_replayed_is_lost_with_its_process():
    async with pool(OnlyOnce()) as episodes:
        await episodes.observe(history("x", "a"))
        assert isinstance(await episodes.observe(history("x", "a", "b")), Observation)
        [pid] = episodes.pids()
        os.kill(pid, signal.SIGKILL)
        lost = await episodes.observe(history("x", "a", "b", "c"))
        assert lost == Failure(reason="environment_lost", detail="its process was replaced")
        assert isinstance(await episodes.observe(history("new", "a")), Observation)


async def test_episodes_keep_to_their_process():
    async with pool(processes=2) as episodes:
        told = [await episodes.observe(history(f"{i}", "pid")) for i in range(12)]
        pids = {int(o.text) for o in told if isinstance(o, Observation)}
        assert pids == set(episodes.pids()) and len(pids) == 2
        again = [await episodes.observe(history(f"{i}", "pid", "pid")) for i in range(12)]
        assert again == told


async def test_an_environment_that_cannot_be_made_is_a_failure_with_its_reason():
    async with pool(Broken()) as episodes:
        failed = await episodes.observe(history("x", "a"))
        assert isinstance(failed, Failure) and failed.reason == "crashed"
        assert "the engine room is flooded" in failed.detail


async def test_nothing_is_left_when_its_owner_is_gone():
    async with pool(processes=2) as episodes:
        await asyncio.gather(*(episodes.observe(history(f"{i}", "a")) for i in range(8)))
        children = {child.pid for child in psutil.Process().children(recursive=True)}
        assert set(episodes.pids()) <= children
    assert not episodes.pids()


def test_bounds_are_refused():
    with pytest.raises(ValueError, match=r"environment_pool\.processes is 0"):
        EnvironmentPool(Awkward(), processes=0)
    with pytest.raises(ValueError, match=r"environment_pool\.threads is 0"):
        EnvironmentPool(Awkward(), threads=0)
