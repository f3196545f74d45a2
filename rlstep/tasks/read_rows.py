"""Rows of a local file (.jsonl, .json, .csv, .parquet) or of a Hugging Face dataset.

Values are read as they are written. Libraries that guess a column's type turn a CSV's 007 into 7.0,
its NA into nothing and 12345678901234567890 into a float; here a CSV's cells are text, and a JSON
number keeps its digits.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rlstep.tasks.rows import Row, Written, shown

FILES = (".jsonl", ".json", ".csv", ".parquet")
"""Endings of the files that are read here; all but the last may be compressed, '.csv.gz'."""


def read_rows(path: str, *, subset: str = "", split: str = "train", limit: int = 0) -> list[Row]:
    """The rows of a local file if it ends like one of `FILES`, else of a dataset's split.

    Args:
        subset, split: of a Hugging Face dataset.
        limit: only the first so many; 0 takes all. A .jsonl and a .csv are read no further.

    Raises:
        ValueError: no such file or dataset, or one that is broken; names file and line, or row.
    """
    ending = Path(path.lower().removesuffix(".gz")).suffix
    read = _READERS.get(ending)
    rows = read(path) if read else read_dataset(path, subset, split)
    found = list(islice(rows, limit or None))
    if not found:
        raise ValueError(f"{path}: has no rows")
    return found


def read_jsonl(path: str) -> Iterator[Row]:
    """Rows of a UTF-8 file with one JSON object per line. A byte order mark, CRLF and blank lines
    at the end are fine.

    A path that ends in '.gz' is decompressed.

    Raises:
        ValueError: there is no such file, it is no gzip, or a line is no JSON object, or is empty
            and another one follows.
    """
    blank = 0
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            blank = blank or number
            continue
        if blank:
            raise ValueError(f"{path}, line {blank}: empty line")
        address = f"{path}, line {number}"
        yield Row(values=_object(_parsed(line, address), address), source=path, line=number)


def read_json(path: str) -> Iterator[Row]:
    """Rows of a UTF-8 file that holds a list of objects, or an object of columns: of equally long
    lists, or of objects with the same keys, as pandas writes them.

    Any other object is one row; and several values, one a line, are read as a .jsonl.

    Raises:
        ValueError: there is no such file, it is no JSON, or it holds something else.
    """
    content = b"".join(_lines(path))
    if not content.strip():
        return
    try:
        held = _parsed(content, path)
    except ValueError as error:
        if isinstance(error.__cause__, json.JSONDecodeError) and "Extra" in error.__cause__.msg:
            yield from read_jsonl(path)
            return
        raise
    for number, values in enumerate(_table(held, path), 1):
        values = _object(values, f"{path}, row {number}")
        yield Row(values=values, source=path, line=number, unit="row")


def read_csv(path: str) -> Iterator[Row]:
    """Rows of a UTF-8 file with a header line; every cell is text, an empty one null.

    Cells are separated by commas and may be quoted, with line ends and doubled quotes inside.

    Raises:
        ValueError: there is no such file, it is no UTF-8, a quote is not closed, a name stands
            twice in the header, or a row has more or fewer cells than that.
    """
    csv.field_size_limit(sys.maxsize)
    records = csv.reader((line.decode("utf-8") for line in _lines(path)), strict=True)
    header: list[str] = []
    last = 0  # line of what was read; a record may have several
    try:
        for first, cells in _no_blank_lines(records, path):
            last = records.line_num
            address = f"{path}, line {first}"
            if not header:
                header = _header(cells, address)
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{address}: {len(cells)} cells, and the header has {len(header)}: {header}"
                )
            values = {name: cell or None for name, cell in zip(header, cells, strict=True)}
            yield Row(values=values, source=path, line=first)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}, from line {last + 1}: no CSV in UTF-8: {error}") from error


def _no_blank_lines(records: Any, path: str) -> Iterator[tuple[int, list[str]]]:
    """Records of a csv.reader, each with its first line; those at the end without a word in any
    cell, which spreadsheets write, are left out."""
    blank = last = 0
    for cells in records:
        first, last = last + 1, records.line_num
        if not any(map(str.strip, cells)):
            blank = blank or first
            continue
        if blank:
            raise ValueError(f"{path}, line {blank}: empty line")
        yield first, cells


def read_parquet(path: str) -> Iterator[Row]:
    """Rows of an Apache Parquet file.

    Raises:
        ValueError: there is no such file, or it is no Parquet file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                columns = [
                    [_widened(cell, field.type) for cell in column.to_pylist()]
                    for field, column in zip(batch.schema, batch.columns, strict=True)
                ]
                for cells in zip(*columns, strict=True):
                    number += 1
                    values = dict(zip(batch.schema.names, cells, strict=True))
                    yield Row(values=values, source=path, line=number, unit="row")
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}, after row {number}: no whole Parquet file: {error}") from error


def read_dataset(name: str, subset: str, split: str) -> Iterator[Row]:
    """Rows of one split of a Hugging Face dataset (an id, or a folder of data files).

    Raises:
        ValueError: it cannot be loaded.
    """
    from datasets import load_dataset

    try:
        rows = load_dataset(name, subset or None, split=split)
    except OSError as error:  # no such file or id, or no network
        endings = ", ".join(FILES[:-1])
        raise ValueError(
            f"task.path is {name!r}: no {endings} or {FILES[-1]} file, and no dataset that can be"
            f" loaded: {error}"
        ) from error
    kinds = {field.name: field.type for field in rows.features.arrow_schema}
    for number, values in enumerate(rows, 1):
        assert isinstance(values, dict)
        values = {name: _widened(value, kinds[name]) for name, value in values.items()}
        yield Row(values=values, source=f"{name}[{split}]", line=number)


_NARROW = {"halffloat": "float16", "float": "float32"}
"""numpy's names by pyarrow's."""
_READERS = {".jsonl": read_jsonl, ".json": read_json, ".csv": read_csv, ".parquet": read_parquet}


def _lines(path: str) -> Iterator[bytes]:
    """As bytes, without a byte order mark: str.splitlines would also cut at U+2028."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as lines:
        try:
            yield next(lines, b"").removeprefix(codecs.BOM_UTF8)
            yield from lines
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: no whole gzip file: {error}") from error


def _parsed(text: bytes, address: str) -> Any:
    try:
        return json.loads(text.decode("utf-8"), parse_float=_number)
    except (ValueError, RecursionError) as error:  # no UTF-8 or no JSON, both ValueErrors; too deep
        raise ValueError(f"{address}: no JSON in UTF-8: {error}") from error


def _number(literal: str) -> float:
    value = float(literal)
    return value if len(literal) < 17 or repr(value) == literal else Written(literal)


def _object(value: Any, address: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{address}: {shown(value)} is no JSON object")
    return value


def _table(held: Any, path: str) -> Iterable[Any]:
    """The rows in what a whole JSON file holds."""
    if isinstance(held, list):
        return held
    columns = list(_object(held, path).values())
    keyed = bool(columns) and all(isinstance(column, dict) for column in columns)
    if not keyed and not (columns and all(isinstance(column, list) for column in columns)):
        return [held]
    if len({tuple(column) if keyed else len(column) for column in columns}) > 1:
        lengths = {name: len(column) for name, column in held.items()}
        raise ValueError(f"{path}: columns of different rows: {lengths}")
    cells = [column.values() if keyed else column for column in columns]
    return [dict(zip(held, row, strict=True)) for row in zip(*cells, strict=True)]


def _header(names: list[str], address: str) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{address}: the header has {twice} more than once")
    return names


def _widened(value: Any, kind: Any) -> Any:
    """A value of a pyarrow type, narrow floats as the shortest text that stands for them: 0.1 of 32
    bits is 0.1, not 0.10000000149011612."""
    if isinstance(value, float) and str(kind) in _NARROW:
        import numpy as np

        return float(str(getattr(np, _NARROW[str(kind)])(value)))
    if isinstance(value, list) and (inside := getattr(kind, "value_type", None)) is not None:
        return [_widened(entry, inside) for entry in value]
    if isinstance(value, dict) and str(kind).startswith("struct"):
        return {name: _widened(entry, kind.field(name).type) for name, entry in value.items()}
    return value
