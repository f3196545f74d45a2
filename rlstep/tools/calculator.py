"""Exact arithmetic."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from rlstep.interfaces import Tool

_LONGEST = 500
"""Characters of an expression."""
_MOST_BITS = 4096
"""Of the numerator, and of the denominator, of every number on the way: about 1,233 digits."""
_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True, kw_only=True)
class Calculator(Tool):
    """Exact arithmetic: + - * / // % ** and brackets over integers and decimal fractions.

    The answer is a whole number, a decimal fraction where that ends (`7/4` is 1.75), or else a
    fraction in lowest terms (`2/6` is 1/3). 0.1 is a tenth. Exponents are whole numbers.
    """

    name: str = "calculator"
    """What a call names it by."""
    description: str = "Works out an arithmetic expression exactly: + - * / // % ** and brackets."
    """What it does, in words for the policy."""
    parameters: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"expression": {"type": "string", "description": "such as (7+2)*3"}},
        "required": ["expression"],
    }

    def call(self, arguments: Mapping[str, Any]) -> str:
        return written(worked_out(arguments["expression"]))


def worked_out(expression: str) -> Fraction:
    """What an expression is worth.

    Raises:
        ValueError: it is none, it is too long or a number on the way too large, or it divides by 0.
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"the expression has more than {_LONGEST} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body, expression.strip())
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("this is no arithmetic expression") from None


def written(number: Fraction) -> str:
    """A number as `Calculator` gives it."""
    if number.denominator == 1:
        return str(number.numerator)
    rest, places = number.denominator, 0
    for prime in (2, 5):
        times = 0
        while rest % prime == 0:
            rest, times = rest // prime, times + 1
        places = max(places, times)
    if rest != 1:
        return f"{number.numerator}/{number.denominator}"
    digits = str(abs(number.numerator) * 10**places // number.denominator).zfill(places + 1)
    return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _value(node: ast.expr, text: str) -> Fraction:
    if isinstance(node, ast.Constant):
        return _bounded(_constant(node, text))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        value = _value(node.operand, text)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, text), _value(node.right, text)
        if isinstance(node.op, ast.Pow):
            return _bounded(_power(left, right))
        if (work := _OPERATORS.get(type(node.op))) is not None:
            return _bounded(Fraction(work(left, right)))
    raise ValueError("there are only numbers, + - * / // % ** and brackets")


def _constant(node: ast.Constant, text: str) -> Fraction:
    if type(node.value) not in (int, float):
        raise ValueError("there are only numbers, + - * / // % ** and brackets")
    if isinstance(node.value, int):
        return Fraction(node.value)
    digits = ast.get_source_segment(text, node) or ""  # 0.1 as it was written, not as a float
    if abs(int(digits.lower().partition("e")[2] or 0)) > _LONGEST:
        raise ValueError("a number is too large")
    return Fraction(digits)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ValueError("an exponent must be a whole number")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits > 1 and (bits - 1) * abs(exponent.numerator) > _MOST_BITS:
        raise ValueError("a number is too large")
    return Fraction(base**exponent.numerator)


def _bounded(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > _MOST_BITS:
        raise ValueError("a number is too large")
    return number
