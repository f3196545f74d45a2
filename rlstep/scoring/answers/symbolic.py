r"""Two expressions of the LaTeX grammar: read, and compared by sympy through Math-Verify.

The grammar's defaults would make one variable of `R` and `r`, take `I` for the imaginary unit and
`i` for a variable, and Math-Verify folds the case of names once more: symbols are named anew here.
"""

from __future__ import annotations

import random
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Any

from rlstep.scoring.answers.answer_text import number

_APART = Fraction(1, 10_000)  # of the larger: numbers farther apart are two, whatever they round to
_POINTS = 6  # where two expressions are tried that sympy cannot tell equal


def symbols_equal(one: str, other: str) -> bool:
    """Whether two formal expressions are equal, either of them as the reference."""
    first, second = parsed(one), parsed(other)
    if not first or not second or any(_undefined(value) for value in (*first, *second)):
        return False
    if (equations := _as_equations(first[0], second[0])) is not None:
        if not equations:
            return False
        first, second = ([equation] for equation in equations)
    try:
        if (pairs := _without_letters(first[0], second[0])) is not None:
            return any(all(_equal_sides(*sides) for sides in pair) for pair in pairs)
        if _verified(second, first) and _verified(first, second):
            return not any(_apart(a, b) for a, b in product(first, second))
        return _same_function(first[0], second[0])
    except ZeroDivisionError:  # of a 1/0 that sympy sees only when it takes digits
        return False


def rounds_to(expression: str, decimals: str) -> bool:
    """Whether a formal expression without letters is a decimal number but for its last digit."""
    value = number(decimals)
    read = parsed(expression)
    if value is None or not read or not getattr(read[0], "is_number", False):
        return False
    exact = read[0].evalf(20)
    last = Fraction(1, 10 ** len(decimals.partition(".")[2]))
    return bool(exact.is_real and abs(exact - value) <= last)


@lru_cache(maxsize=1024)
def parsed(answer: str) -> list[Any]:
    """The reading of one expression, empty where the grammar has none."""
    return _parse(answer)


def _parse(answer: str) -> list[Any]:
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    normal = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none",
        equations=False,
    )  # fmt: skip
    try:
        value = latex2sympy(
            answer,
            is_real=True,
            normalization_config=normal,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
        return [_renamed(value)]
    except (MemoryError, RecursionError):
        raise
    except Exception:  # the grammar raises bare ones, and sympy whatever an expression leads to
        return []


def _renamed(value: Any) -> Any:
    """With `i` as the imaginary unit unless it counts a sum, and no two names that differ in case.

    Math-Verify compares names in lower case, products of letters as one name, and `E` as `e`.
    """
    from sympy import Basic, EulerGamma, I, MatrixBase, Symbol

    if isinstance(value, MatrixBase):
        return value.applyfunc(_renamed)
    if not isinstance(value, Basic):
        return value
    names = {
        symbol: Symbol("v" + symbol.name.encode().hex(), real=True)
        for symbol in value.atoms(Symbol)
    }
    bound = value.atoms(Symbol) - value.free_symbols
    for symbol in names:
        if symbol.name == "i" and symbol not in bound:
            names[symbol] = I
    names[I] = Symbol("v" + b"I".hex(), real=True)
    names[EulerGamma] = Symbol("v" + b"Gamma".hex(), real=True)
    return value.xreplace(names)


def _same_function(one: Any, other: Any) -> bool:
    """Whether two expressions in real letters have one domain and the same values on it, tried at
    points of both signs: `\\sqrt{1/m}` and `1/\\sqrt{m}`, which sympy does not equate."""
    from sympy import Expr, Float, MatrixExpr
    from sympy.core.function import AppliedUndef

    if not (isinstance(one, Expr) and isinstance(other, Expr)):
        return False
    if one.has(MatrixExpr) or other.has(MatrixExpr):
        return False
    letters = sorted(one.free_symbols, key=str)
    if not letters or set(letters) != other.free_symbols or one.atoms(AppliedUndef):
        return False
    draw, compared = random.Random(0), 0
    for point in range(2 * _POINTS):
        sign = 1 if point % 2 else -1
        at = {letter: Float(sign * draw.uniform(0.3, 3), 30) for letter in letters}
        placed: list[Any] = [expression.doit().xreplace(at) for expression in (one, other)]
        values = [value.evalf(25) for value in placed]
        if not all(value.is_number and value.is_finite for value in values):
            return False
        real = [bool(value.is_real) for value in values]
        if real[0] != real[1]:
            return False
        if real[0]:
            if abs(values[0] - values[1]) > 1e-15 * max(1, abs(values[0])):
                return False
            compared += 1
    return compared >= _POINTS


def _as_equations(one: Any, other: Any) -> tuple[Any, ...] | None:
    r"""Of two relations with `\ne` among them the equations that they deny, which are equal where
    they are; nothing where one is another relation. None for all else.

    Math-Verify (0.9) knows no such relation, and raises a KeyError.
    """
    from sympy import Eq, Ne
    from sympy.core.relational import Relational

    both = (one, other)
    if not all(isinstance(value, Relational) for value in both):
        return None
    denied = [isinstance(value, Ne) for value in both]
    if not any(denied):
        return None
    return tuple(Eq(v.lhs, v.rhs, evaluate=False) for v in both) if all(denied) else ()


def _without_letters(one: Any, other: Any) -> list[Any] | None:
    """Of two relations of which one holds for all letters or for none, the pairs of their sides: of
    equations either way round, of two kinds of relations none. None for all else.

    Math-Verify (0.9) takes any two of them for equal: 1 = 2, 7 = 7 and f(2) = 10.
    """
    from sympy import Eq
    from sympy.core.relational import Relational
    from sympy.logic.boolalg import BooleanAtom

    if isinstance(one, BooleanAtom) or isinstance(other, BooleanAtom):
        return []  # of 'x = x' no side is left
    if not (isinstance(one, Relational) and isinstance(other, Relational)):
        return None
    read: Any = (one, other)
    if all((value.lhs - value.rhs).doit().expand().free_symbols for value in read):
        return None
    straight = ((one.lhs, other.lhs), (one.rhs, other.rhs))
    crossed = ((one.lhs, other.rhs), (one.rhs, other.lhs))
    if isinstance(one, Eq) and isinstance(other, Eq):
        return [straight, crossed]
    if type(one) is type(other):
        return [straight]
    return [crossed] if type(one) is type(other.reversed) else []


def _equal_sides(one: Any, other: Any) -> bool:
    return _verified([one], [other]) and not _apart(one, other)


def _undefined(expression: Any) -> bool:
    """Whether it is 1/0 or 0/0, or has an infinity inside a value, which equals nothing.

    As a reference, Math-Verify (0.9) raises on the former; of infinities it takes differences,
    and finds |ln sqrt(oo)| equal to |6|, on some days. They may stand alone and bound intervals.
    """
    from sympy import Basic, Expr, nan, oo, zoo

    if isinstance(expression, str):
        return False
    if not isinstance(expression, Expr):  # a set, a relation; a matrix has entries and no arguments
        inner = expression.args if isinstance(expression, Basic) else expression
        return any(map(_undefined, inner))
    if not expression.has(oo, -oo, nan, zoo):
        return False
    return expression not in (oo, -oo) and expression.args != (-1, oo)


def _apart(one: Any, other: Any) -> bool:
    """Whether of two values, equal for Math-Verify, one has a number that is not near any of the
    other's: to 6 decimals, and as the chopped difference of two, every small number is 0."""
    if one == other:
        return False
    ones, others = _numbers(one), _numbers(other)
    near = [[_near_value(a, b) for b in others] for a in ones]
    return bool(ones and others) and not (
        all(map(any, near)) and all(map(any, zip(*near, strict=True)))
    )


def _numbers(value: Any) -> list[Any]:
    """The numbers that a value consists of; none of one that has letters, or is anything else."""
    from sympy import Eq, Expr, FiniteSet, Interval, MatrixBase, Tuple

    if isinstance(value, Expr):
        return [value] if value.is_number else []
    if isinstance(value, Interval):
        entries = [value.start, value.end]
    elif isinstance(value, FiniteSet | Tuple):
        entries = value.args
    elif isinstance(value, MatrixBase):
        entries = value.flat()
    else:
        entries = [value.rhs] if isinstance(value, Eq) and value.lhs.is_Symbol else []
    numbers = [_numbers(entry) for entry in entries]
    return [number for inner in numbers for number in inner] if all(numbers) else []


def _near_value(one: Any, other: Any) -> bool:
    """`_near` for expressions without letters; of a percentage with its sign or without."""
    from sympy import Integer, Rational, UnevaluatedExpr

    if one == other:
        return True
    sign = UnevaluatedExpr(Rational(1, 100))  # as which Math-Verify reads a percent sign
    readings = [
        [_evaluated(value.xreplace({sign: factor})) for factor in (Integer(1), Rational(1, 100))]
        for value in (one, other)
    ]
    try:
        return any(_near(a, b) for a, b in product(*readings))
    except TypeError:  # there is no order of what evalf leaves as it is, as it does gcd(4, 6)
        return True


def _evaluated(value: Any) -> Any:
    """A number's first 15 digits; 0 where it has none that stand out of what cancels."""
    from sympy.core.evalf import PrecisionExhausted

    try:
        return value.evalf(strict=True)
    except PrecisionExhausted:
        return value.evalf(chop=True)


def _verified(first: list[Any], second: list[Any]) -> bool:
    from math_verify import verify

    try:
        # No timeout here: Math-Verify's is a signal handler; the pool around us kills instead.
        return verify(
            first, second, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True
        )
    except ValueError as error:
        if "pole" not in str(error):
            raise
        return False  # mpmath's, of (-1)! and the like: as undefined as 1/0


def _near(value: Any, other: Any) -> bool:
    """Whether two numbers are the same but for rounding; 0 is near to 0 only."""
    return bool(abs(value - other) <= _APART * max(abs(value), abs(other)))
