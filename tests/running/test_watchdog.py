"""A run that stands still ends, in virtual time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rlstep.running.backlog import Backlog
from rlstep.running.stream import stream
from rlstep.running.watchdog import Stalled, waits, watched
from rlstep.types import Group
from tests.faults.virtual_time import now, run_virtually


def test_work_that_goes_on_is_left_alone() -> None:
    """However long it takes: a sign every 90 s, and 100 s are allowed."""
    done = []

    async def work() -> None:
        for i in range(50):
            await asyncio.sleep(90.0)
            done.append(i)

    run_virtually(watched(work(), lambda: len(done), 100.0))
    assert len(done) == 50


@pytest.mark.parametrize("before", [0, 3])
def test_work_that_stands_still_ends(before: int) -> None:
    done, ended = [], []

    async def work() -> None:
        for i in range(before):
            await asyncio.sleep(10.0)
            done.append(i)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(now())

    with pytest.raises(Stalled, match=r"nothing was done for 100 s"):
        run_virtually(watched(work(), lambda: len(done), 100.0))
    assert 10.0 * before + 100.0 <= ended[0] <= 10.0 * before + 110.0


def test_an_error_and_a_cancellation_come_through() -> None:
    async def fail() -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run_virtually(watched(fail(), lambda: 0, 100.0))

    async def stopped() -> None:
        doing = asyncio.ensure_future(watched(asyncio.sleep(1e4), lambda: now() // 50, 100.0))
        await asyncio.sleep(500.0)
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        assert doing.cancelled() and len(asyncio.all_tasks()) == 1

    run_virtually(stopped())


@pytest.mark.parametrize("stalls", [False, True])
def test_it_has_ended_when_the_work_has(stalls: bool) -> None:
    """A stop saves what is whole then, and nothing of the loop may still be under way."""
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5.0)  # what it had under way comes to its end
            ended.append(now())

    async def stopped() -> None:
        doing = asyncio.ensure_future(watched(work(), lambda: 0, 100.0))
        await asyncio.sleep(1000.0 if stalls else 50.0)
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        assert ended == [105.0 if stalls else 55.0]

    run_virtually(stopped())


def test_a_process_that_was_stopped_for_hours_goes_on() -> None:
    """Ctrl-Z and `fg`: the clock has moved, and nobody could do anything."""

    away = [0.0]

    async def work() -> None:
        await asyncio.sleep(30.0)
        away[0] = 1e4
        await asyncio.sleep(50.0)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time
        loop.time = lambda: before() + away[0]  # type: ignore[method-assign]
        await watched(work(), lambda: 0, 100.0)

    run_virtually(run())


def test_who_waits_for_whom_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Down to the innermost call, of tasks and of what they await."""

    async def nothing(iteration: int):  # type: ignore[no-untyped-def]
        await asyncio.Event().wait()
        yield Group(prompt=None, rollouts=())  # type: ignore[arg-type]

    async def collect() -> None:
        async for _ in stream(nothing, range(3), 2, 0, Backlog()):
            pass

    with caplog.at_level(logging.ERROR), pytest.raises(Stalled):
        run_virtually(watched(collect(), lambda: 0, 100.0))
    assert "rlstep.running.stream._Collecting._run" in caplog.text
    assert list(waits_of_nobody()) == []


def waits_of_nobody() -> list[str]:
    async def alone() -> list[str]:
        return list(waits())

    return run_virtually(alone())
