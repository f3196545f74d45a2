"""How many losses of a role's processes are too many."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 3600.0
"""The time that a bound on losses counts in."""


class Recoveries:
    """Counts recoveries, and those of the last hour.

    Args:
        field: of the configuration, which says how many are too many.
        clock: of a time that nobody sets, in seconds.
    """

    def __init__(self, field: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._field = field
        self._clock = clock
        self._recent: deque[float] = deque()

    def spend(self, most: int, event: str, cause: BaseException) -> None:
        """Count one.

        Args:
            most: in an hour.
            event: what happened to whom.

        Raises:
            RuntimeError: there have been so many; says the event and its cause.
        """
        now = self._clock()
        while self._recent and self._recent[0] <= now - WINDOW_S:
            self._recent.popleft()
        if len(self._recent) >= most:
            raise RuntimeError(
                f"{event}: {cause} ({self._field} = {most} are used up, within"
                f" {WINDOW_S / 60:.0f} minutes)"
            ) from cause
        self._recent.append(now)
        self.total += 1
