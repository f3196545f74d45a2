"""A full disk, by its name: which path, how many bytes it needs, how many are free."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOTHING = 1 << 20
"""So few free bytes are none: what fails to write then, fails for that."""


class DiskFull(OSError):
    """There is no room for a file."""

    def __init__(self, path: Path, needed: int) -> None:
        free = free_bytes(path)
        text = f"{os.strerror(errno.ENOSPC)} (ENOSPC): it needs {needed:,} bytes, {free:,} are free"
        super().__init__(errno.ENOSPC, text, str(path))


def as_disk_full(error: BaseException, path: Path, needed: int) -> DiskFull | None:
    """The error as a DiskFull where that is what it is, None where it is another.

    Libraries that write through C++ (PyTorch, wandb's service) say only that a write failed, so a
    disk without free bytes is the cause whatever is said.

    Args:
        path: what was written.
        needed: bytes.
    """
    if isinstance(error, DiskFull):
        return error
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        # An error of a Ray actor carries its own as `cause`.
        cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
    full = any(isinstance(each, OSError) and each.errno in _FULL for each in seen)
    return DiskFull(path, needed) if full or free_bytes(path) < _NOTHING else None


def free_bytes(path: Path) -> int:
    """Of the file system that holds a path, or will hold it."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free
