"""How much of the time every role has something to do: where a run waits, and for whom."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SYNC = "sync"
"""A weight sync, which is no role's work ..."""
SYNCED = frozenset({"generator", "policy"})
"""... and keeps these from theirs."""


class Busy:
    """Seconds in which each role was asked for anything; several things at once count once.

    What is under way at a generator while weights are synced waits, so that of the generators and
    of the policy's learner busy, sync and idle time add up to the whole.

    Args:
        clock: of a time that nobody sets, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = self._at = clock()
        self._open: Counter[str] = Counter()
        self._spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, role: str) -> Iterator[None]:
        """The role is asked for something."""
        self._pass()
        self._open[role] += 1
        try:
            yield
        finally:
            self._pass()
            self._open[role] -= 1

    def shares(self) -> dict[str, float]:
        """Of every role that was ever asked, and of 'sync', the share of the time since the last
        call, in [0, 1]."""
        self._pass()
        whole = self._at - self._since
        found = {role: self._spent[role] / whole if whole else 0.0 for role in self._open}
        self._since = self._at
        self._spent.clear()
        return found

    def _pass(self) -> None:
        now = self._clock()
        passed, self._at = now - self._at, now
        syncing = self._open[SYNC] > 0
        for role, asked in self._open.items():
            if asked and not (syncing and role in SYNCED):
                self._spent[role] += passed
