"""The most memory that a process and all that it started have held."""

from __future__ import annotations

import os
from pathlib import Path

_GIB = 1 << 20
"""Of the kernel's kB."""


def peak_gib(process: int | None = None) -> float:
    """The sum of the peaks of a process and of those below it that are still there, in GiB; 0.0
    where the system does not say (it is Linux's /proc that does).

    Args:
        process: its id; this one's where none is given. Peaks at different times count in full, and
            pages that processes share count in each.
    """
    process = os.getpid() if process is None else process
    return sum(_peak_kb(each) for each in (process, *_below(process))) / _GIB


def own_peak_gib() -> float:
    """Of this process alone."""
    return _peak_kb(os.getpid()) / _GIB


def _peak_kb(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # ended meanwhile
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _below(process: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(child) for text in lists for child in text.split()]
    return [each for child in children for each in (child, *_below(child))]
