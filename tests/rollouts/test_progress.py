"""A long queue is no failure, silence is: who is waited for, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rlstep.rollouts.progress import PROBE_S, patiently
from tests.idle_clock import IdleClock


async def idle_from(at: float) -> float:
    """Nothing was done from this time on."""
    return max(0.0, asyncio.get_running_loop().time() - at)


async def after(seconds: float, answer: str = "done") -> str:
    await asyncio.sleep(seconds)
    return answer


async def never() -> Any:
    await asyncio.Event().wait()


async def waited(clock: IdleClock, work: Any, idle: Callable[[], Any], **settings: float) -> float:
    """Seconds until it is given up."""
    start = clock.now
    with pytest.raises(TimeoutError):
        await patiently(work, idle, **{"every_s": 100.0, "limit_s": 100.0, **settings})
    return clock.now - start


async def test_it_is_waited_for_as_long_as_anything_is_done() -> None:
    """1,000 s, ten times the limit; asked every 100 s."""
    clock, asked = IdleClock(), []

    async def working() -> float:
        asked.append(clock.now)
        return 0.5

    start = clock.now
    work = after(1000.0)
    assert await patiently(work, working, every_s=100.0, limit_s=100.0) == "done"
    # First after 100 s, then whenever the limit would be over: 100 - 0.5 s later.
    assert [round(time - start, 3) for time in asked] == [100.0 + 99.5 * i for i in range(10)]


@pytest.mark.parametrize("stops_at", [0.0, 1.0, 99.0, 100.0, 350.0])
async def test_one_that_stands_still_is_found_within_the_limit(stops_at: float) -> None:
    """However its last step lies to the questions."""
    clock = IdleClock()
    at = clock.now + stops_at
    assert await waited(clock, never(), lambda: idle_from(at)) == pytest.approx(stops_at + 100.0)


async def test_one_that_gives_no_sign_of_life_is_found_a_probe_later() -> None:
    clock = IdleClock()
    assert await waited(clock, never(), never) == pytest.approx(100.0 + PROBE_S)
    assert await waited(clock, never(), never, every_s=5.0) == pytest.approx(5.0 + 5.0)


async def test_an_answer_that_comes_while_it_is_asked_is_taken() -> None:
    clock = IdleClock()
    start = clock.now
    assert await patiently(after(110.0), never, every_s=100.0, limit_s=100.0) == "done"
    assert clock.now - start == pytest.approx(110.0)


async def test_a_limit_over_what_it_is_asked_after() -> None:
    """Asked every 10 s, and given up after 100 s of standing still."""
    clock = IdleClock()
    at = clock.now
    settings = {"every_s": 10.0, "limit_s": 100.0}
    assert await waited(clock, never(), lambda: idle_from(at), **settings) == pytest.approx(100.0)


async def test_what_goes_wrong_goes_to_who_asked() -> None:
    IdleClock()

    async def broken() -> Any:
        raise OSError("gone")

    for work, idle in ((broken(), never), (never(), broken)):
        with pytest.raises(OSError, match="gone"):
            await patiently(work, idle, every_s=100.0, limit_s=100.0)


async def test_who_leaves_takes_the_question_along() -> None:
    work = asyncio.ensure_future(never())
    asking = asyncio.create_task(patiently(work, never, every_s=100.0, limit_s=100.0))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, work, return_exceptions=True)
    assert asking.cancelled() and work.cancelled()
