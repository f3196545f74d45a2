"""Waiting for other processes by their progress: a slow machine is waited for, one that stands
still is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_LOOK_S = 2.0
"""Between two sums of what all processes computed: Ray's have hundreds of threads to ask."""

_STANDSTILL_S = 120.0
"""So long the processes below this one compute next to nothing: nothing will come any more. A busy
virtual machine has stood still as a whole for 55 s (so its kernel said)."""
_IDLE_TICKS = 100
"""Hundredths of a second of CPU in that time: what only waits, a server, say, takes less."""


def wait_for(condition: Callable[[], T], what: str) -> T:
    """Ask again and again until the answer is true; returns it.

    Raises:
        AssertionError: it is not, and all processes below this one stand still.
    """
    worked, since, asked = -_IDLE_TICKS - 1, time.monotonic(), float("-inf")
    while not (found := condition()):
        now = time.monotonic()
        if now - asked > _LOOK_S:
            asked = now
            if abs((total := _worked()) - worked) > _IDLE_TICKS:  # less: some have ended
                worked, since = total, now
        assert now - since < _STANDSTILL_S, f"no {what}, and nothing works on it"
        time.sleep(0.02)  # between two looks, not instead of them
    return found


def gone(pids: Iterable[int]) -> Callable[[], bool]:
    """Whether none of these processes is there, save as one that nobody has asked for its end."""
    wanted = list(pids)
    return lambda: all(state_and_ticks(pid)[0] in "ZX" for pid in wanted)


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process started, and what those started."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # ended meanwhile
        return []
    children = [int(child) for text in lists for child in text.split()]
    return children + [grand for child in children for grand in descendants(child)]


def state_and_ticks(pid: int) -> tuple[str, int]:
    """A process's state ('R' runs, 'T' is stopped, 'Z' has ended, 'X' is gone), and the CPU time
    that it and its ended children took, in hundredths of a second."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return "X", 0
    return fields[0], sum(int(field) for field in fields[11:15])


def _worked() -> int:
    return sum(state_and_ticks(pid)[1] for pid in descendants(os.getpid()))
