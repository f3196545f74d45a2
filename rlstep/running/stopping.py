"""A stop by Ctrl-C or SIGTERM, wherever a run is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


async def until_stopped(
    stopped: asyncio.Event,
    work: Coroutine[Any, Any, object],
    whole: Callable[[], Awaitable[object]] | None = None,
) -> bool:
    """Whether the work was done to its end; a stop cancels it.

    Args:
        stopped: set by the signals, see `cluster.set_at_signals`.
        work: raises here what it raises.
        whole: returns when nothing is under way that must not be cut in two.
    """
    doing = asyncio.create_task(work)
    stop = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({doing, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and whole is not None:
            await whole()
    finally:
        stop.cancel()
        doing.cancel()
    try:
        await doing
    except asyncio.CancelledError:
        if not stopped.is_set():  # somebody else cancelled it
            raise
        return False
    return True
