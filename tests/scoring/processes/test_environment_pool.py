"""Episodes in processes of their own: what goes wrong in one is a value, and touches no other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psutil
import pytest

from rlstep.scoring.processes import environment_pool, environment_worker
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.scoring.processes.environment_worker import Episodes
from rlstep.types import Action, Failure, History, Observation
from tests.builders import make_prompt
from tests.environments.awkward import Awkward, Broken, Copied, NeverReady, OnlyOnce
from tests.waiting import gone, state_and_ticks, wait_for


def history(name: str, *words: str) -> History:
    actions = tuple(Action(text=word, token_ids=(i, 7)) for i, word in enumerate(words))
    return History(episode_id=name, prompt=make_prompt(), seed=5, actions=actions)


class PatientProcess(environment_pool._Process):
    """Late is what has stood still for a while: a busy machine makes nothing late."""

    _worked, _still = -1, 0

    def _late(self, call: Any) -> None:
        worked = state_and_ticks(self.pid)[1]
        self._still = self._still + 1 if worked == self._worked else 0
        self._worked = worked
        if self._still > 8:
            return super()._late(call)
        call.timer = asyncio.get_running_loop().call_later(0.5, self._late, call)


class PatientPool(EnvironmentPool):
    process = PatientProcess


@asynccontextmanager
async def pool(environment: Any = None, **fields: Any) -> AsyncIterator[EnvironmentPool]:
    made = PatientPool(environment or Awkward(), **{"deadline_s": 30.0, **fields})
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
        await episodes.leave(history("x", "a"))
        assert (await episodes.observe(history("x", "a"))).text == "42/5:1:a:[0, 7]"  # type: ignore[union-attr]
        await episodes.leave(history("never seen", "a"))


async def test_an_episode_that_cannot_be_let_go_of_holds_up_nobody():
    async with pool(deadline_s=1.0) as episodes:
        await episodes.observe(history("mate", "a"))
        await episodes.observe(history("bad", "stuck"))
        before = episodes.pids()
        await episodes.leave(history("bad", "a"))
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
        ("raise", "crashed", "awkward.py, line"),
        ("counts", "bad_observation", "counts['calls'] is inf (float), not a finite number"),
        ("listed", "bad_observation", "counts is list, not numbers by name"),
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
    async with pool(deadline_s=1.0) as episodes:
        await episodes.observe(history("mate", "a"))
        hanging, mate = await asyncio.gather(
            episodes.observe(history("bad", "hang")), episodes.observe(history("mate", "a", "b"))
        )
        assert hanging == Failure(reason="timeout", detail="no observation within 1 s")
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


async def test_an_environment_whose_start_stands_still_is_a_failure(monkeypatch: Any):
    monkeypatch.setattr("rlstep.scoring.processes.start_watch._LIMIT_S", 2.0)
    async with pool(NeverReady()) as episodes:
        failed = await episodes.observe(history("x", "a"))
        assert isinstance(failed, Failure) and failed.reason == "crashed"
        assert "does not start: not ready" in failed.detail


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


# --- many at once --------------------------------------------------------------------------------


class Socket:
    """Counts what a process is sent."""

    def __init__(self, process: Any) -> None:
        self.messages: list[list[dict[str, Any]]] = []
        self._write, process._transport.write = process._transport.write, self.write

    def write(self, data: bytes) -> None:
        self.messages.append([json.loads(line) for line in data.splitlines()])
        self._write(data)


async def test_what_waits_for_a_process_goes_in_one_message():
    async with pool(threads=4) as episodes:
        await episodes.observe(history("x", "a"))
        sent = Socket(episodes._slots[0].process)
        told = await asyncio.gather(*(episodes.observe(history(f"{i}", "a")) for i in range(50)))
        await asyncio.gather(*(episodes.leave(history(f"{i}", "a")) for i in range(50)))
        assert told == [Observation(text="42/5:1:a:[0, 7]", reward=0.5)] * 50
        assert [len(message) for message in sent.messages] == [50, 50]


async def test_of_many_that_go_wrong_in_one_message_each_is_a_failure_of_its_own():
    words = ["a", "raise", "b", "nan", "c", "none", "exit", "d"]
    async with pool() as episodes:
        asked = (episodes.observe(history(f"{i}", word)) for i, word in enumerate(words))
        told = await asyncio.gather(*asked)
    reasons = [answer.reason if isinstance(answer, Failure) else "" for answer in told]
    assert reasons == ["", "crashed", "", "bad_observation", "", "bad_observation", "crashed", ""]


async def test_nobody_is_late_who_waits_for_others():
    """Two at a time, half a second each: the last of 20 waits longer than its deadline, and its
    clock has not begun."""
    async with pool(threads=2, deadline_s=2.0) as episodes:
        names = range(20)
        told = await asyncio.gather(*(episodes.observe(history(f"{i}", "slow")) for i in names))
        assert all(isinstance(answer, Observation) for answer in told)


async def test_one_that_hangs_leaves_those_that_wait_behind_it_their_time():
    async with pool(threads=1, deadline_s=1.0) as episodes:
        hanging, *behind = await asyncio.gather(
            episodes.observe(history("bad", "hang")),
            *(episodes.observe(history(f"{i}", "a")) for i in range(20)),
        )
        assert isinstance(hanging, Failure) and hanging.reason == "timeout"
        assert behind == [Observation(text="42/5:1:a:[0, 7]", reward=0.5)] * 20


async def test_who_had_not_begun_is_not_suspected():
    """Of a process that ends by itself only what it may have begun with is asked alone: the one
    that ended it, those before it whose answers went with it, and one beside it."""
    async with pool(threads=2) as episodes:
        told = await asyncio.gather(
            *(episodes.observe(history(f"{i}", "end" if i == 5 else "a")) for i in range(40))
        )
        failures = [i for i, answer in enumerate(told) if isinstance(answer, Failure)]
        assert failures == [5]
        alone = episodes._suspects.process
        assert alone is not None and next(alone._numbers) <= 1 + 6


async def test_a_call_that_nobody_waits_for_any_more_has_its_deadline_still():
    async with pool(threads=1, deadline_s=1.0) as episodes:
        await episodes.observe(history("mate", "a"))
        [before] = episodes.pids()
        left = asyncio.ensure_future(episodes.observe(history("bad", "hang")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left.cancel()
        again = await episodes.observe(history("mate", "a", "b"))
        assert again == Observation(text="42/5:2:b:[1, 7]", reward=1.0)
        assert episodes.pids() != [before]


async def test_one_start_that_fails_is_told_to_all_who_wait_for_it():
    starts = []

    class Counted(EnvironmentPool):
        async def new_process(self) -> Any:
            starts.append(1)
            return await super().new_process()

    made = Counted(Broken(), deadline_s=30.0)
    told = await asyncio.gather(*(made.observe(history(f"{i}", "a")) for i in range(50)))
    await made.close()
    assert {answer.reason for answer in told if isinstance(answer, Failure)} == {"crashed"}
    assert len(told) == 50 and len(starts) == 1


@pytest.mark.parametrize(
    ("environment", "played"),
    [
        (Awkward(), [3, 6, 9, 12, 16]),  # every one replays two or three turns before its own
        (Copied(), [3, 4, 5, 6, 8]),  # the first one does; the last one replays one more turn
    ],
)
async def test_a_history_that_several_go_on_from_is_played_once(environment: Any, played: Any):
    async with pool(environment) as episodes:
        asked = [history(f"{i}", "a", "b", "all") for i in range(4)]
        asked.append(history("4", "a", "b", "c", "all"))
        told = [await episodes.observe(replace(each, affinity="parent")) for each in asked]
        assert [int(answer.text) for answer in told if isinstance(answer, Observation)] == played


async def test_copies_do_not_know_of_each_other():
    async with pool(Copied(), threads=4) as episodes:
        names = [f"{i}" for i in range(8)]
        for words in (["a", "b", "c"], ["a", "b", "c", "d"], ["a", "b", "c", "d", "e"]):
            told = await asyncio.gather(*(episodes.observe(history(n, *words)) for n in names))
            k = len(words)
            said = f"42/5:{k}:{words[-1]}:[{k - 1}, 7]"
            assert told == [Observation(text=said, reward=k / 2)] * 8


async def test_a_history_that_raises_when_it_is_replayed_does_so_for_all():
    async with pool(Copied()) as episodes:
        bad = (episodes.observe(history(f"{i}", "a", "raise", "b")) for i in range(4))
        told = await asyncio.gather(*bad)
        assert [answer.reason for answer in told if isinstance(answer, Failure)] == ["crashed"] * 4
        again = await episodes.observe(history("5", "a", "b"))
        assert again == Observation(text="42/5:2:b:[1, 7]", reward=1.0)


def test_a_history_that_raised_once_is_played_again():
    class Once(Copied):
        def reset(self, prompt: Any, seed: int) -> Any:
            resets.append(seed)
            return super().reset(prompt, seed) if resets[1:] else 1 // 0

    resets: list[int] = []
    episodes = Episodes(Once())
    call = {"call": 1, **environment_pool._message(history("x", "a", "b"))}
    assert episodes.answer(call)["failure"] == "crashed"
    assert episodes.answer(call)["text"] == "42/5:2:b:[1, 7]"
    assert episodes.answer({**call, "episode": "y"})["text"] == "42/5:2:b:[1, 7]"
    assert len(resets) == 2  # the third is a copy


def test_no_more_than_some_histories_are_kept(monkeypatch: Any):
    monkeypatch.setattr(environment_worker, "MOST_KEPT", 3)
    episodes = Episodes(Copied())
    for word in "abcdefa":
        call = {"call": 1, **environment_pool._message(history(word, word, "z"))}
        assert episodes.answer(call)["text"] == "42/5:2:z:[1, 7]"
    assert len(episodes._played_once) == 3


async def test_episodes_of_one_affinity_share_a_process():
    async with pool(processes=3) as episodes:
        asked = [replace(history(f"{i}", "pid"), affinity="one") for i in range(12)]
        assert len({str(await episodes.observe(each)) for each in asked}) == 1
