"""What is too large to be written out stays as it is."""

from __future__ import annotations

import pytest

from rlstep.scoring.answers.answer_text import number
from rlstep.scoring.answers.comparison import compare
from rlstep.scoring.answers.notation import formal, written
from rlstep.types import Verdict


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("5e+03", "5000"),
        ("2.5e-05", "0.000025"),
        ("5e+401", "5e+401"),
        ("5e-401", "5e-401"),
        (r"1.\overline{3}", r"\frac{4}{3}"),
        ("1" * 60 + r".\overline{3}", "1" * 60 + r".\overline{3}"),
    ],
)
def test_numbers_are_written_out_up_to_a_size(text: str, shown: str) -> None:
    assert written(text) == shown


def test_a_long_number_is_text() -> None:
    assert number("1" * 100) is not None
    assert number("1" * 101) is None


@pytest.mark.parametrize("text", ["(x+1)'", "frog + 1", r"\blorp x", "(x)_2", "[x]_2", "|x|_2"])
def test_what_is_not_listed_is_not_formal(text: str) -> None:
    assert formal("(x+1)") is not None
    assert formal(text) is None


@pytest.mark.parametrize(("row", "value"), [("1 2", "x+3-x"), ("1 2", "3+x-x"), ("2 3", "x+6-x")])
def test_a_row_of_numbers_is_neither_their_sum_nor_their_product(row: str, value: str) -> None:
    assert compare(row, value) is not Verdict.CORRECT
    assert compare(value, row) is not Verdict.CORRECT
