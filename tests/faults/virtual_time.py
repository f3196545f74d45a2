"""Event loops whose time is that of their timers: hours of waiting take as long as what is done in
them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_S = 1e6
"""No world here is meant to take as long."""


class Hang(Exception):
    """Everybody waits for somebody, and nobody for a time; or it takes for ever."""


def run_virtually(world: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own, which holds no sockets and no threads.

    Raises:
        Hang: nothing would ever happen again.
    """
    with asyncio.Runner() as runner:
        loop: Any = runner.get_loop()
        now, really = [0.0], loop._selector.select

        def select(timeout: float | None = None) -> Any:
            found = really(0)
            if not found and timeout != 0:
                if timeout is None:
                    raise Hang("everybody waits for somebody else")
                now[0] += timeout
                if now[0] > LONGEST_S:
                    raise Hang(f"it has not come to its end in {LONGEST_S:g} s")
            return found

        loop._selector.select, loop.time = select, lambda: now[0]
        try:
            return runner.run(world)
        finally:
            loop._selector.select = really


def now() -> float:
    """Of the running loop, in seconds."""
    return asyncio.get_running_loop().time()
