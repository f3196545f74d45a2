"""A clock that stands still while anything happens: deadlines without waiting for them."""

from __future__ import annotations

import asyncio
from typing import Any

_LOOK_S = 0.02
"""So long the sockets of this process are silent before the clock goes on to the next timer."""


class IdleClock:
    """The clock of the running event loop, from now on.

    For tests whose servers run in the same loop: what is on its way between them arrives before
    any deadline, however long the machine stood still, and a deadline is there at once when nothing
    is on its way.
    """

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self.now = loop.time()
        self._really = loop._selector.select
        loop._selector.select = self._select
        loop.time = lambda: self.now

    def _select(self, timeout: float | None = None) -> Any:
        found = self._really(timeout if timeout is None else min(timeout, _LOOK_S))
        if not found and timeout:
            self.now += timeout
        return found
