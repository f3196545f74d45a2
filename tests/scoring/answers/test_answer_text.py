from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.scoring.answers.answer_text import number, plain, same_text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("$18$.", "18"),
        (r"\$1{,}000", "1000"),
        (r"10,\!236", "10236"),
        ("**18**", "18"),
        (r"\(\dfrac{1}{2}\)", r"\frac{1}{2}"),
        (r"\left(1,\  2\right]", r"(1,\ 2]"),
        (r"\leftarrow x", r"\leftarrow x"),
        ("= 5", "5"),
        (".5", ".5"),
        ("5!", "5!"),
        ("\N{MINUS SIGN}3", "-3"),
        (" \n ", ""),
        # spaces between digits: of thousands, and others
        (r"10\,236\;000", "10236000"),
        (r"x=10\,236", "x=10236"),
        ("10 236", "10236"),
        ("-10\N{THIN SPACE}236.5 m", "-10236.5 m"),
        (r"3\,1/4", "3 1/4"),
        ("3 141/500", "3 141/500"),
        ("2 34", "2 34"),
        ("1 2345", "1 2345"),
        (r"x\,y", "x y"),
    ],
)
def test_plain(answer, expected):
    assert plain(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1,000", Fraction(1000)),
        ("-0.5", Fraction(-1, 2)),
        (".5", Fraction(1, 2)),
        ("+7", Fraction(7)),
        ("3/4", Fraction(3, 4)),
        ("1,234,567.25", Fraction(123456725, 100)),
        ("007", Fraction(7)),
        ("3 1/4", Fraction(13, 4)),
        ("-3 1/4", Fraction(-13, 4)),
    ],
)
def test_number(answer, expected):
    assert number(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "-",
        ".",
        "1,00",
        "1,0000",
        "1/0",
        "1/2/3",
        "1e5",
        "x",
        "1 2",
        "1 1/0",
        "1 2/3/4",
        "(1,000)",
        "9" * 5000,
        "٣",
    ],
)
def test_not_a_plain_number(answer):
    assert number(answer) is None


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_change_nothing(value):
    assert number(f"{value:,}") == number(str(value)) == value


@given(st.text(max_size=60))
def test_plain_is_idempotent_up_to_white_space(text):
    assert same_text(plain(text), plain(text + " "))


def test_same_text():
    assert same_text("a b", "ab")
    assert same_text(r"\text{June 20}", "June 20")
    assert not same_text("ab", "aB")
    assert same_text("( 1,2 )", "(1, 2)")
    assert not same_text("3 1/4", "31/4")
    assert not same_text(r"2\text{ 3}", "23")
