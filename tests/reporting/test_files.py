from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rlstep.reporting.files import JsonLines, write_json


@pytest.fixture
def lines(tmp_path: Path) -> JsonLines:
    return JsonLines(tmp_path / "metrics.jsonl")


def test_rows_come_back(lines: JsonLines):
    lines.append(
        {"iteration": 1, "text": "größer\u2028\n", "a": np.float32(0.5), "b": np.arange(2)}
    )
    lines.append({"iteration": 2}, {"iteration": 2})
    assert list(lines) == [
        {"iteration": 1, "text": "größer\u2028\n", "a": 0.5, "b": [0, 1]},
        {"iteration": 2},
        {"iteration": 2},
    ]


def test_every_line_is_on_the_file_at_once(lines: JsonLines):
    for number in range(3):
        lines.append({"iteration": number})
        assert len(lines.path.read_text().splitlines()) == number + 1


def test_numbers_that_are_not_finite_are_words_that_float_reads(lines: JsonLines):
    lines.append({"iteration": 1, "nan": float("nan"), "inf": np.float32("inf")})
    (row,) = lines
    assert np.isnan(float(row["nan"])) and float(row["inf"]) == float("inf")
    assert "NaN" not in lines.path.read_text()  # which is no JSON


def test_text_that_is_no_unicode_does_not_stop_a_run(lines: JsonLines):
    lines.append({"iteration": 1, "text": "a\udcffb"})
    assert [row["iteration"] for row in lines] == [1]


def test_cutting_back_drops_later_rows_and_a_torn_one(lines: JsonLines):
    for iteration in (1, 2, 2, 3):
        lines.append({"iteration": iteration})
    with lines.path.open("a") as file:
        file.write('{"iteration": 4, "los')
    assert [row["iteration"] for row in lines] == [1, 2, 2, 3]
    lines.truncate_after(2)
    assert lines.path.read_text().count("\n") == 3
    lines.append({"iteration": 3, "again": True})
    assert [row["iteration"] for row in lines] == [1, 2, 2, 3]


@pytest.mark.parametrize("iteration", [7, 8])
def test_cutting_back_to_the_end_drops_the_torn_line_only(lines: JsonLines, iteration: int):
    lines.append({"iteration": 7})
    with lines.path.open("a") as file:
        file.write("{")
    lines.truncate_after(iteration)
    assert lines.path.read_text() == '{"iteration": 7}\n'


def test_a_cut_at_every_byte_leaves_whole_rows(lines: JsonLines):
    for iteration in range(4):
        lines.append({"iteration": iteration, "text": "ü"})
    whole = lines.path.read_bytes()
    for size in range(len(whole) + 1):
        lines.path.write_bytes(whole[:size])
        lines.truncate_after(9)
        kept = lines.path.read_bytes()
        assert whole.startswith(kept) and kept.count(b"\n") == whole[:size].count(b"\n")


def test_nothing_written_yet_is_nothing_to_cut(lines: JsonLines):
    lines.truncate_after(3)
    assert list(lines) == [] and not lines.path.exists()


@pytest.mark.parametrize("line", ["{", "3", "null", '{"step": 1}', '{"iteration": "x"}'])
def test_a_broken_line_inside_is_named(lines: JsonLines, line: str):
    lines.path.write_text(f'{{"iteration": 1}}\n{line}\n{{"iteration": 2}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        lines.truncate_after(1)


def test_a_json_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})

    def crash(*_: object) -> None:
        raise OSError("crash")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="crash"):
        patch.setattr(os, "replace", crash)
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    write_json(path, {"a": float("inf")})
    assert json.loads(path.read_text()) == {"a": "inf"}


@pytest.mark.parametrize(
    "sizes", [[], [1], [3], [1, 2, 3], [0, 4], [2, 0, 1], [50, 1, 50]], ids=str
)
def test_the_rows_of_one_iteration(sizes: list[int], lines: JsonLines):
    """Rows of very different lengths, `sizes[i]` of iteration i; and iterations without rows."""
    rows = [
        {"iteration": i, "row": j, "text": "x" * (j * 37 % 400)}
        for i, size in enumerate(sizes)
        for j in range(size)
    ]
    if rows:
        lines.append(*rows)
    for iteration in range(-1, len(sizes) + 1):
        wanted = [row for row in rows if row["iteration"] == iteration]
        assert list(lines.of_iteration(iteration)) == wanted


def test_an_iteration_with_a_torn_last_line(lines: JsonLines):
    lines.append({"iteration": 1}, {"iteration": 2, "text": "whole"})
    with lines.path.open("a") as file:
        file.write('{"iteration": 2, "te')
    assert list(lines.of_iteration(2)) == [{"iteration": 2, "text": "whole"}]
    assert list(lines.of_iteration(1)) == [{"iteration": 1}]


def test_a_line_that_is_no_row_is_named(lines: JsonLines):
    lines.path.write_text('{"iteration": 1}\n[3]\n')
    with pytest.raises(ValueError, match="a line that begins"):
        list(lines.of_iteration(2))


def test_few_lines_are_read_of_a_long_file(lines: JsonLines, monkeypatch: pytest.MonkeyPatch):
    lines.append(*({"iteration": i // 4} for i in range(4096)))
    parsed: list[bytes] = []
    parse = lines._parse
    monkeypatch.setattr(lines, "_parse", lambda line: parsed.append(line) or parse(line))
    assert len(list(lines.of_iteration(700))) == 4
    assert len(parsed) < 40  # two to the 16 bytes, and the rows themselves
