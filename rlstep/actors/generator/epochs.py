"""What a replica's deaths are told apart by."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any


class Over(Exception):
    """The actor that was asked is given up; its replica has, or gets, another one."""


class GeneratorsLost(RuntimeError):
    """Some replicas do not answer, and nothing is known against the others."""

    def __init__(self, lost: Mapping[int, BaseException]) -> None:
        super().__init__("; ".join(f"generator {i} was lost: {lost[i]}" for i in sorted(lost)))
        self.lost = lost
        """By replica, how."""


class Epoch:
    """The life of one actor of a replica.

    Who saw it fail asks for the recovery of this epoch, and not of what stands in its place by
    then; what it still says after its end is heard by nobody.
    """

    def __init__(self, replica: int, actor: Any) -> None:
        self.replica = replica
        self.actor = actor
        self.serves = False
        """Whether it has the weights that it should: nothing is asked of it before."""
        self.verified = asyncio.Event()
        """Cleared from the start of a weight sync until the parity probe has passed: what it says
        in between is handed on then, and never where another one takes its place. A request that
        lives through a sync may end in that time, written by weights that came wrong."""
        self.paused = False
        self.over = False
        self.failure: BaseException | None = None
        """Why it did not start."""
        self._watching: set[asyncio.Future[None]] = set()

    def watched(self) -> asyncio.Future[None]:
        """Done at this epoch's end; `unwatch` it."""
        over = asyncio.get_running_loop().create_future()
        if self.over:
            over.set_result(None)
        self._watching.add(over)
        return over

    def unwatch(self, over: asyncio.Future[None]) -> None:
        self._watching.discard(over)

    def end(self) -> None:
        self.over, self.serves = True, False
        for over in self._watching:
            if not over.done():
                over.set_result(None)
