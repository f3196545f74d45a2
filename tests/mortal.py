"""Work of something that may die under it, for stand-ins of actors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayActorError


async def unless_dead(dead: asyncio.Event, work: Callable[[], Awaitable[Any]]) -> Any:
    """What the work gives. Raises: RayActorError: it died before, or meanwhile."""
    doing, ended = asyncio.ensure_future(work()), asyncio.ensure_future(dead.wait())
    try:
        await asyncio.wait({doing, ended}, return_when=asyncio.FIRST_COMPLETED)
        if dead.is_set():
            raise RayActorError
        return doing.result()
    finally:
        doing.cancel()
        ended.cancel()
        await asyncio.gather(doing, ended, return_exceptions=True)
