"""Rows of a local .jsonl file or a Hugging Face dataset, with an address for every complaint."""

from __future__ import annotations

import codecs
import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row and where it stands."""

    values: Mapping[str, Any]
    source: str
    """File, or dataset id and split."""
    line: int
    """From 1."""

    def error(self, column: str, problem: str) -> ValueError:
        """What is wrong, with its address, ready to be raised."""
        return ValueError(f"{self.source}, line {self.line}, field {column!r}: {problem}")

    def value(self, column: str) -> Any:
        """Raises ValueError where the row has no such column."""
        if column not in self.values:
            raise self.error(column, f"missing; the row has {sorted(self.values)}")
        return self.values[column]

    def text(self, column: str, *, may_be_empty: bool = False) -> str:
        """A string. Raises ValueError where it is none, is blank, or is no valid Unicode."""
        return self.checked(column, self.value(column), may_be_empty=may_be_empty)

    def checked(self, column: str, value: Any, *, may_be_empty: bool = False) -> str:
        """The value of (or inside) a column, if it is a string to work with; see `text`."""
        if not isinstance(value, str):
            raise self.error(column, f"{_shown(value)} is no string")
        if not may_be_empty and not value.strip():
            raise self.error(column, "empty")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise self.error(column, "holds half a character (a lone surrogate)")
        return value

    def number_or_text(self, column: str) -> str:
        """A string, or a finite number as it is written."""
        value = self.value(column)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return str(value)
        return self.text(column).strip()


def read_jsonl(path: str) -> Iterator[Row]:
    """Rows of a UTF-8 file with one JSON object per line. A byte order mark and CRLF are fine.

    A path that ends in '.gz' is decompressed.

    Raises:
        ValueError: there is no such file, it is no gzip, or a line is empty or no JSON object.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    for number, line in enumerate(_lines(path), 1):
        start = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        yield Row(values=_parsed(start, f"{path}, line {number}"), source=path, line=number)


def read_dataset(name: str, subset: str, split: str) -> Iterator[Row]:
    """Rows of one split of a Hugging Face dataset (an id, or a folder of data files).

    Raises:
        ValueError: it cannot be loaded.
    """
    from datasets import load_dataset

    try:
        rows = load_dataset(name, subset or None, split=split)
    except OSError as error:  # no such file or id, or no network
        raise ValueError(
            f"task.path is {name!r}: no .jsonl file, and no dataset that can be loaded: {error}"
        ) from error
    for number, values in enumerate(rows, 1):
        assert isinstance(values, dict)
        yield Row(values=values, source=f"{name}[{split}]", line=number)


def _lines(path: str) -> Iterator[bytes]:
    """As bytes: str.splitlines would also cut at U+2028."""
    if not path.endswith(".gz"):
        with open(path, "rb") as lines:
            yield from lines
        return
    with gzip.open(path, "rb") as lines:
        try:
            yield from lines
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: no whole gzip file: {error}") from error


def _parsed(line: bytes, address: str) -> dict[str, Any]:
    if not line.strip():
        raise ValueError(f"{address}: empty line")
    try:
        values = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8 or no JSON, both ValueErrors; too deep
        raise ValueError(f"{address}: no JSON in UTF-8: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{address}: {_shown(values)} is no JSON object")
    return values


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
