"""What is too large to be written out stays as it is."""

from __future__ import annotations

import pytest

from rlstep.scoring.answers.answer_text import number
from rlstep.scoring.answers.notation import written


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
