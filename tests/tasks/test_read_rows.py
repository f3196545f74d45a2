"""Files of four kinds: the same rows from each, no value changed, and broken ones named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from rlstep.checks import json_able
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.read_rows import read_rows
from tests.real_tokenizers import byte_level_tokenizer

Write = Callable[[str, "bytes | str"], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: bytes | str) -> str:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(tmp_path / name)

    return write


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[[pa.Table], str]:
    def write(table: pa.Table) -> str:
        parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
        return str(tmp_path / "rows.parquet")

    return write


def values(path: str) -> list[dict[str, Any]]:
    return [dict(row.values) for row in read_rows(path)]


ROWS = [
    {"prompt": "What is 2+3?", "answer": "5"},
    {"prompt": 'A "quoted", word\nand a line', "answer": "007"},
    {"prompt": "é 你好 \u2028 🙂", "answer": "1,000"},
]


def test_the_same_rows_from_every_kind_of_file(write: Write, write_table: Any, tmp_path: Path):
    arrow_csv.write_csv(pa.Table.from_pylist(ROWS), tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_bytes()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    paths = [
        write("rows.jsonl", lines),
        write("rows.jsonl.gz", lines),
        write("rows.json", json.dumps(ROWS, indent=2)),
        write("rows.JSON", json.dumps(ROWS)),
        write("rows.json.gz", json.dumps(ROWS)),
        write("columns.json", json.dumps(columns)),
        write("lines.json", lines),
        write("bom.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        write("bom.csv", b"\xef\xbb\xbf" + text),
        write("crlf.csv", text.replace(b"\n", b"\r\n").replace(b"word\r\n", b"word\n")),
        write("rows.csv.gz", text),
        str(tmp_path / "rows.csv"),
        write_table(pa.Table.from_pylist(ROWS)),
    ]
    assert [values(path) for path in paths] == [ROWS] * len(paths)

    def ids(path: str) -> list[str]:
        loaded = Jsonl(path=path).load(byte_level_tokenizer(), 64)
        return [prompt.prompt_id for prompt in loaded.train]

    assert {tuple(ids(path)) for path in paths} == {tuple(ids(paths[0]))}


# --- csv


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("007", "007"),
        ("1e5", "1e5"),
        ("1.50", "1.50"),
        ("12345678901234567890", "12345678901234567890"),
        ("0.1000000000000000055", "0.1000000000000000055"),
        ("NA", "NA"),
        ("nan", "nan"),
        ("N/A", "N/A"),
        ("None", "None"),
        ("null", "null"),
        ("True", "True"),
        ("2024-01-02", "2024-01-02"),
        ("1/2", "1/2"),
        ("50%", "50%"),
        ('"1,234"', "1,234"),
        ('"say ""hi"""', 'say "hi"'),
        ('"two\nlines"', "two\nlines"),
        ('"two\r\nlines"', "two\r\nlines"),
        ("\\frac{1}{2}", "\\frac{1}{2}"),
        (" 5 ", " 5 "),
        ("", None),
        ('""', None),
        ("\u22123", "\u22123"),
        ("x" * 200_000, "x" * 200_000),
    ],
)
def test_a_cell_is_its_text(write: Write, cell: str, value: str | None):
    path = write("rows.csv", f"prompt,answer,n\na,12,1\nb,{cell},2\nc,0.5,3\n")
    assert [row["answer"] for row in values(path)] == ["12", value, "0.5"]


def test_empty_answers_of_a_csv_are_counted(write: Write):
    path = write("rows.csv", "prompt,answer\na,007\nb,\nc,12\n")
    found = Jsonl(path=path).load(byte_level_tokenizer(), 64)
    assert [prompt.answer for prompt in found.train] == ["007", "12"]
    assert found.dropped == {"no_answer": 1}


@pytest.mark.parametrize("end", ["", "\n", "\n\n", ",\n,\n", " , \n\n", "\r\n"])
def test_rows_without_a_word_at_the_end_are_none(write: Write, end: str):
    assert len(values(write("rows.csv", f"prompt,answer\na,1\n{end}"))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "has no rows"),
        (b"prompt,answer\n", "has no rows"),
        (b"a,b,a\n1,2,3\n", r"line 1: the header has \['a'\] more than once"),
        (b"a,b\n1,2\n3\n", r"line 3: 1 cells, and the header has 2: \['a', 'b'\]"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells, and the header has 2"),
        (b'a,b\n"x\ny",2\n1,2,3\n', "line 4: 3 cells"),
        (b"a,b\n1,2\n\n3,4\n", "line 3: empty line"),
        (b"a,b\n1,2\n,\n3,4\n", "line 3: empty line"),
        (b'a,b\n1,2\n1,"open\n3,4\n', "from line 3: no CSV in UTF-8: unexpected end"),
        (b'a,b\n1,"x"y\n', "from line 2: no CSV in UTF-8: "),
        (b"a,b\n1,\xff\n", "from line 2: no CSV in UTF-8: "),
        (b"a,b\r1,2\r", "from line 1: no CSV in UTF-8: new-line character"),
    ],
)
def test_a_broken_csv_is_named(write: Write, text: bytes, message: str):
    with pytest.raises(ValueError, match=rf"rows\.csv(, |: ){message}"):
        values(write("rows.csv", text))


# --- json


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('[{"a": 1}, {"b": 2}]', [{"a": 1}, {"b": 2}]),
        ('{"a": [1, 2], "b": ["x", null]}', [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ('{"a": {"0": 1, "5": 2}, "b": {"0": 3, "5": 4}}', [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
        ('{"a": 1, "b": [1, 2]}', [{"a": 1, "b": [1, 2]}]),
        ('{"a": 1}\n', [{"a": 1}]),
        ('{"a": 1}\n{"a": 2}\n\n', [{"a": 1}, {"a": 2}]),
        ('\n [ {"a": [ ] } ] \n\n', [{"a": []}]),
        ('[{"a": 0.00005}]', [{"a": 0.00005}]),
    ],
)
def test_shapes_of_json(write: Write, text: str, rows: list[dict[str, Any]]):
    assert values(write("rows.json", text)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "rows.json: has no rows"),
        ("[]", "rows.json: has no rows"),
        ('{"a": []}', "rows.json: has no rows"),
        ("5", "rows.json: 5 is no JSON object"),
        ('[{"a": 1}, 5]', "rows.json, row 2: 5 is no JSON object"),
        ('[{"a": 1}', "rows.json: no JSON in UTF-8"),
        ('{"a": [1, 2], "b": [1]}', r"columns of different rows: \{'a': 2, 'b': 1\}"),
        ('{"a": {"0": 1}, "b": {"1": 1}}', "columns of different rows"),
        ('{"a": 1}\n{"a": \n', "rows.json, line 2: no JSON in UTF-8"),
        ('{"a": 1}\n[1]', r"rows.json, line 2: \[1\] is no JSON object"),
    ],
)
def test_broken_json_is_named(write: Write, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        values(write("rows.json", text))


def test_an_error_in_a_json_names_the_row(write: Write):
    path = write("rows.json", '[{"prompt": "a", "answer": 1}, {"prompt": "b"}]')
    with pytest.raises(ValueError, match=r"rows\.json, row 2, field 'answer': missing"):
        Jsonl(path=path).load(byte_level_tokenizer(), 64)


# --- parquet


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pa.array([1, None, 3]), [1, None, 3]),
        (pa.array([2**62, 1, 0], pa.int64()), [2**62, 1, 0]),
        (pa.array([0.1, 1e-5, None], pa.float64()), [0.1, 1e-5, None]),
        (pa.array([0.1, 1e-5, None], pa.float32()), [0.1, 1e-5, None]),
        (pa.array(np.array([0.1, 2.5, 3], np.float16)), [0.1, 2.5, 3.0]),
        (pa.array([[0.1], [], None], pa.list_(pa.float32())), [[0.1], [], None]),
        (
            pa.array([{"x": 0.1}, None, {"x": 2}], pa.struct({"x": pa.float32()})),
            [{"x": 0.1}, None, {"x": 2.0}],
        ),
        (pa.array(["007", "NA", ""]), ["007", "NA", ""]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a", None, "b"], pa.large_string()), ["a", None, "b"]),
        (pa.array([True, False, None]), [True, False, None]),
        (
            pa.array([[{"role": "user", "content": "a"}]] * 3),
            [[{"role": "user", "content": "a"}]] * 3,
        ),
        (pa.array([Decimal("1.50")] * 3), [Decimal("1.50")] * 3),
        (pa.array([date(2026, 1, 2)] * 3), [date(2026, 1, 2)] * 3),
        (pa.array([datetime(2026, 1, 2)] * 3), [datetime(2026, 1, 2)] * 3),
        (pa.array([b"x"] * 3), [b"x"] * 3),
        (pa.nulls(3), [None] * 3),
    ],
)
def test_a_parquet_keeps_its_values(write_table: Any, column: pa.Array, found: list[Any]):
    table = pa.table({"prompt": ["a", "b", "c"], "value": column})
    assert [row["value"] for row in values(write_table(table))] == found


def test_a_nested_answer_of_a_parquet(write_table: Any):
    rows = [
        {
            "prompt": [{"content": f"{i}+{i}?", "role": "user"}],
            "reward_model": {"ground_truth": f"{2 * i}" if i else None, "style": "rule"},
            "extra_info": {"index": i, "split": "train"},
        }
        for i in range(5)
    ]
    path = write_table(pa.Table.from_pylist(rows))
    task = Jsonl(
        path=path, answer_column="reward_model.ground_truth", id_column="extra_info.index", limit=4
    )
    found = task.load(byte_level_tokenizer(), 64)
    assert [(p.prompt_id, p.answer) for p in found.train] == [("1", "2"), ("2", "4"), ("3", "6")]
    assert found.dropped == {"no_answer": 1}
    assert found.train[0].meta["extra_info"] == {"index": 1, "split": "train"}


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (pa.array([0.1], pa.float32()), "0.1"),
        (pa.array([5e-5], pa.float32()), "0.00005"),
        (pa.array([5e-5]), "0.00005"),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([Decimal("12345678901234567890.5")]), "12345678901234567890.5"),
        (pa.array([2**63], pa.uint64()), "9223372036854775808"),
        (pa.array(["007"]), "007"),
    ],
)
def test_a_reference_from_a_parquet(write_table: Any, answer: pa.Array, reference: str):
    path = write_table(pa.table({"prompt": ["a"], "answer": answer}))
    [prompt] = Jsonl(path=path).load(byte_level_tokenizer(), 64).train
    assert prompt.answer == reference


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (pa.array([date(2026, 1, 2)]), r"datetime.date\(2026, 1, 2\) is no string"),
        (pa.array([float("nan")]), "nan is no string"),
        (pa.array([True]), "True is no string"),
        (pa.array([b"5"]), "b'5' is no string"),
        (pa.array([["5"]]), r"\['5'\] is no string"),
        (pa.array([""]), "empty"),
    ],
)
def test_no_reference_from_a_parquet(write_table: Any, answer: pa.Array, problem: str):
    path = write_table(pa.table({"prompt": ["a"], "answer": answer}))
    with pytest.raises(ValueError, match=rf"rows\.parquet, row 1, field 'answer': {problem}"):
        Jsonl(path=path).load(byte_level_tokenizer(), 64)


def test_dates_and_decimals_are_text_in_the_meta(write_table: Any):
    row = {"prompt": "a", "answer": 1, "day": date(2026, 1, 2), "cost": Decimal("1.50")}
    [prompt] = (
        Jsonl(path=write_table(pa.Table.from_pylist([row]))).load(byte_level_tokenizer(), 64).train
    )
    assert (prompt.meta["day"], prompt.meta["cost"]) == ("2026-01-02", "1.50")
    json_able("meta", prompt.meta)


def test_what_is_no_parquet(write: Write, write_table: Any, tmp_path: Path):
    with pytest.raises(ValueError, match=r"rows\.parquet, after row 0: no whole Parquet file"):
        values(write("rows.parquet", "prompt,answer\n"))
    whole = Path(write_table(pa.Table.from_pylist(ROWS))).read_bytes()
    with pytest.raises(ValueError, match="no whole Parquet file"):
        values(write("rows.parquet", whole[: len(whole) // 2]))
    with pytest.raises(ValueError, match="has no rows"):
        values(write_table(pa.table({"prompt": pa.array([], pa.string())})))
    for ending in ("parquet", "csv", "json", "jsonl"):
        with pytest.raises(ValueError, match=rf"nowhere\.{ending}: no such file"):
            values(str(tmp_path / f"nowhere.{ending}"))
