"""Files that survive a crash: JSON that is replaced whole, JSON lines that can be cut back."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rlstep.reporting.disk import as_disk_full


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one rename, so that a reader sees the old or the new one.

    Raises:
        DiskFull: there is no room; the old one stays.
    """
    temporary = path.with_name(f".{path.name}.writing")
    text = json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"
    try:
        temporary.write_text(text)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise as_disk_full(error, path, len(text)) or error from error
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: there is none in it; names the file.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a JSON object is expected, it has {str(found)[:40]!r}")
    return found


class JsonLines:
    """An append-only file of one JSON object a line, each with its 'iteration'.

    A line is handed to the operating system whole, so a reader (or a crash of this process) finds
    whole lines; only a machine that loses power can leave a torn last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Numbers that are not finite are written as 'nan', 'inf' and '-inf'; float() reads them.

        Raises:
            TypeError: a value is no string, number, boolean, None, array, list or mapping.
            DiskFull: there is no room; no row of these is in the file.
        """
        text = "".join(
            json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows
        )
        data = text.encode("utf-8", "backslashreplace")
        with self.path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(data) < len(data):  # the disk ended in the middle
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError as error:
                file.truncate(end)
                raise as_disk_full(error, self.path, len(data)) or error from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (row for row, _ in self._rows())

    def of_iteration(self, iteration: int) -> Iterator[dict[str, Any]]:
        """The rows of one iteration, found by halving: a file of many gigabytes is not read whole.

        Iterations never decrease along the file.

        Raises:
            ValueError: a line is no JSON object with an iteration.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            low, high = 0, file.seek(0, os.SEEK_END)
            while low < high:  # rows of the iteration begin in [low, high], at a line's start
                middle = (low + high) // 2
                start, line = _line_after(file, middle)
                if not line.endswith(b"\n") or self._parse(line)["iteration"] >= iteration:
                    high = middle
                else:
                    low = start + len(line)
            file.seek(_line_after(file, low)[0])
            for line in file:
                if not line.endswith(b"\n") or (row := self._parse(line))["iteration"] > iteration:
                    return
                yield row

    def truncate_after(self, iteration: int) -> None:
        """Drop every row of a later iteration, and a torn last line. No file: nothing to drop.

        Raises:
            ValueError: a line that is not the last is no JSON object with an iteration.
        """
        if not self.path.exists():
            return
        end = 0
        for row, after in self._rows():
            if row["iteration"] > iteration:
                break
            end = after
        os.truncate(self.path, end)

    def _rows(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Rows with the offset, in bytes, behind each; none where nothing was written yet."""
        if not self.path.exists():
            return
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return  # torn
                offset += len(line)
                yield self._parse(line, number), offset

    def _parse(self, line: bytes, number: int | None = None) -> dict[str, Any]:
        try:
            row = json.loads(line)
            int(row["iteration"])
        except (ValueError, KeyError, TypeError) as error:
            place = f"line {number}" if number else f"a line that begins {line[:40]!r}"
            raise ValueError(
                f"{self.path}, {place}: {error!r}; a line is a JSON object with an iteration"
            ) from error
        return row


def _line_after(file: BinaryIO, offset: int) -> tuple[int, bytes]:
    """The first line that begins at an offset or behind it, and where it begins; b'' at the end."""
    file.seek(max(0, offset - 1))
    if offset:
        file.readline()  # the rest of the line that holds the byte before
    start = file.tell()
    return start, file.readline()


def _plain(value: Any) -> Any:
    """JSON's own types; arrays become lists, numbers that are not finite become words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
