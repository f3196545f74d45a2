"""How long a process that is to start is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import psutil

LOOK_S = 1.0
"""Between two looks at a process that starts."""
_LIMIT_S = 150.0
"""Processor time that a start may take, and how long it may stand still."""
_WORKS_S = 0.5
"""Of processor time in `_LIMIT_S` seconds: what does less stands still."""


class StartWatch:
    """Says when a process that is to start is waited for no longer.

    By what it does and not by the clock, since beside other work a start takes many times as long:
    until it has computed for 150 s, or stood still for so long.
    """

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid = pid
        self._clock = clock
        self._worked, self._since = 0.0, clock()

    def problem(self) -> str:
        """Why it is given up, or ''."""
        worked, now = self.processor_s(), self._clock()
        if abs(worked - self._worked) >= _WORKS_S:  # less than before where a child has ended
            self._worked, self._since = worked, now
        if worked > _LIMIT_S:
            return f"not ready after {worked:.0f} s of processor time"
        if now - self._since > _LIMIT_S:
            return f"not ready, and at work for less than {_WORKS_S} s in {now - self._since:.0f} s"
        return ""

    def processor_s(self) -> float:
        """Seconds that it and all below it have computed; 0 when it is gone."""
        total = 0.0
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += sum(each.cpu_times()[:4])  # and of children that have ended
        return total
