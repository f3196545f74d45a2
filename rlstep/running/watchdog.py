"""A run in which nothing gets done any more ends, and says who waits for whom.

Every verb of a role has a deadline of its own. This is for a wait that has none, which would be a
fault of the run itself and keep its machines for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

logger = logging.getLogger(__name__)

_LOOKS = 20
"""In the time that is allowed."""


class Stalled(RuntimeError):
    """Nothing was done for too long."""


async def watched(
    work: Coroutine[Any, Any, None], signs: Callable[[], object], limit_s: float
) -> None:
    """Do the work, as long as it shows signs of life.

    Args:
        signs: anything that changes while something is done.
        limit_s: seconds without a change that are too many.

    Raises:
        Stalled: there were so many. Who waits for whom is in the log.
    """
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_watch(signs, limit_s))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            logger.error("who waits for whom:\n%s", "\n".join(waits()))
            watching.result()
    finally:
        watching.cancel()
        doing.cancel()
        # Whoever ends the work goes on when it has ended; of what stands still nothing is sure.
        await asyncio.wait({doing}, timeout=limit_s)
    await doing


async def _watch(signs: Callable[[], object], limit_s: float) -> None:
    # Looks are counted, and no clock is read: of a process that was stopped (Ctrl-Z) or of a loop
    # that was kept from going on nothing could be seen, and only one look is lost.
    last, alike = signs(), 0
    while alike < _LOOKS:
        await asyncio.sleep(limit_s / _LOOKS)
        found = signs()
        last, alike = found, alike + 1 if found == last else 0
    raise Stalled(
        f"nothing was done for {limit_s:.0f} s, which is longer than any deadline allows; the run"
        " ends, and its log says who waits for whom"
    )


def waits() -> Iterator[str]:
    """Every task of the loop that stands in this package: where, the innermost call last."""
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task() and (places := list(_places(task.get_coro()))):
            yield f"  {task.get_name()}: {' > '.join(places)}"


def _places(awaited: Any) -> Iterator[str]:
    """What a coroutine waits in, through all that it awaits."""
    while awaited is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                module = frame.f_globals.get("__name__", "")
                if module.startswith("rlstep."):
                    yield f"{module}.{frame.f_code.co_qualname}:{frame.f_lineno}"
                break
        awaited = next(
            (
                inner
                for name in ("cr_await", "ag_await", "gi_yieldfrom")
                if (inner := getattr(awaited, name, None)) is not None
            ),
            None,
        )
