"""Whether a process that has not answered still works: by what it gets done, not by who waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

PROBE_S = 30.0
"""Longest wait for an actor to say how long it has got nothing done."""


class Progress:
    """How long a process has got nothing done, kept in that process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()

    def made(self) -> None:
        self._since = self._clock()

    def idle_s(self) -> float:
        return self._clock() - self._since


async def patiently(
    answer: Awaitable[T],
    idle_s: Callable[[], Awaitable[float]],
    *,
    every_s: float,
    limit_s: float,
) -> T:
    """An answer, waited for as long as who owes it gets anything done: a long queue is no failure.

    Args:
        answer: is cancelled where it is waited for no longer.
        idle_s: asks how long nothing has been done.
        every_s: is asked after so long without an answer.
        limit_s: seconds without progress that are too many.

    Raises:
        TimeoutError: nothing was done for so long, or the question is not answered within
            `PROBE_S` (or `every_s`, which may be less).
    """
    waiting = asyncio.ensure_future(answer)
    left = every_s
    try:
        while not (await asyncio.wait({waiting}, timeout=left))[0]:
            idle = await _asked(waiting, idle_s(), min(PROBE_S, every_s))
            if waiting.done():
                break
            if idle >= limit_s:
                raise TimeoutError(f"nothing was done for {idle:.0f} s")
            left = min(max(limit_s - idle, limit_s / 100), every_s)
        return waiting.result()
    finally:
        waiting.cancel()


async def _asked(
    waiting: asyncio.Future[Any], question: Awaitable[float], deadline_s: float
) -> float:
    """How long nothing was done; of no meaning where the answer itself has come meanwhile."""
    asked = asyncio.ensure_future(question)
    try:
        await asyncio.wait(
            {waiting, asked}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED
        )
        if waiting.done():
            return 0.0
        if not asked.done():
            raise TimeoutError(f"no sign of life within {deadline_s:.0f} s")
        return asked.result()
    finally:
        asked.cancel()
