"""Exact arithmetic, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from rlstep.tools.calculator import Calculator, worked_out, written


def answered(expression: str) -> str:
    return Calculator().call({"expression": expression})


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("7+2*3-4", "9"),
        ("(7+2)*3", "27"),
        ("0.1+0.2", "0.3"),
        ("1/3", "1/3"),
        ("2/6+1/6", "0.5"),
        ("-7/4", "-1.75"),
        ("-0.05", "-0.05"),
        ("7//2", "3"),
        ("-7//2", "-4"),
        ("-7%3", "2"),
        ("7.5%2", "1.5"),
        ("2**10", "1024"),
        ("2**-2", "0.25"),
        ("(1/3)**2", "1/9"),
        ("0**0", "1"),
        ("--3", "3"),
        ("1e3", "1000"),
        ("1.e-2", "0.01"),
        (".5", "0.5"),
        ("1_000*2", "2000"),
        ("0x10", "16"),
        ("  1 +\t1 ", "2"),
        ("1**99999999", "1"),
        ("12345678901234567890*98765432109876543210", "1219326311370217952237463801111263526900"),
        ("1/8192", "0.0001220703125"),
    ],
)
def test_answers(expression: str, answer: str):
    assert answered(expression) == answer


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "no arithmetic expression"),
        ("(1", "no arithmetic expression"),
        ("1 2", "no arithmetic expression"),
        ("x=1", "no arithmetic expression"),
        ("\n1\n2", "no arithmetic expression"),
        ("1/0", "division by zero"),
        ("1%0", "division by zero"),
        ("0**-1", "division by zero"),
        ("2^3", "there are only numbers"),
        ("x+1", "there are only numbers"),
        ("1,000", "there are only numbers"),
        ("'a'*3", "there are only numbers"),
        ("True+1", "there are only numbers"),
        ("2j", "there are only numbers"),
        ("abs(1)", "there are only numbers"),
        ("(1).real", "there are only numbers"),
        ("1<2", "there are only numbers"),
        ("~1", "there are only numbers"),
        ("[1][0]", "there are only numbers"),
        ("9**9**9", "a number is too large"),
        ("9**-9999", "a number is too large"),
        ("1e999", "a number is too large"),
        ("1e-999", "a number is too large"),
        ("2**0.5", "an exponent must be a whole number"),
        ("1" * 501, "more than 500 characters"),
    ],
)
def test_what_is_refused(expression: str, why: str):
    with pytest.raises(ValueError, match=why):
        answered(expression)


def test_answers_are_those_of_fractions():
    rng = np.random.default_rng(0)
    for _ in range(500):
        a, b, c = (int(n) for n in rng.integers(1, 50, 3))
        assert worked_out(f"{a}/{b}-{c}*{a}") == Fraction(a, b) - c * a
        assert Fraction(written(Fraction(a - 25, b))) == Fraction(a - 25, b)
        assert worked_out(written(Fraction(a, 2**3 * 5 ** (b % 4)))) == Fraction(
            a, 8 * 5 ** (b % 4)
        )
