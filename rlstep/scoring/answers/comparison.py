r"""Compares two answers of mathematics by value.

Model text is never evaluated: numbers are read by a regular expression, and of everything else only
what is made of listed commands and short names goes on to the LaTeX grammar of Math-Verify.
Math-Verify's second parser, for bare expressions, is sympy's `parse_expr`, which is Python's
`eval`; it is not used.

**Typed forms.** Among these equality is an equivalence, symmetric and transitive: exact numbers,
numbers with a unit, expressions (`R` is not `r`), words and sequences of capitals
(`HHT` is not `THH`), pairs and open intervals `(a, b)`, other intervals, sets `\{a, b\}`, matrices,
equations. A pair is no set. An equation is another where it has the same solutions, and one that
holds for all letters or for none (`f(2) = 10`, `1 = 2`) where its sides are the same; a pair that
is named, `(x, y) = (1, 2)`, is `x = 1, y = 2`. A unit is another by conversion (`units`), a
derivative is a variable of its own.

**Bare values** say less, and stand outside that law: a bare number is equal to that number with
any unit, name or base (`5` to `5 cm`, `x = 5` and `5_8`, while `5 cm` is not `5 m`), and as a
percentage (`50` and `0.5` to `50\%`); a time that names no half of the day is that time in either,
and '3:10' a time beside another such, else a ratio; a bare list `1, 2` is equal to the set and to
the pair; a decimal to what it is the rounding of. A bare value beside an assignment is compared
with its value: `x = 5`, `5 = x`, `x \approx 5`, `f(3) = 5`, `x \in [0,1)`, never with a constraint
(`2x + 3y = 5`). An exact value beside its decimals, `\frac{7}{9} \approx 0.78`, is either of them.

**Letters.** `i`, `e` and `\pi` are numbers, upright or not; `5e-05` is written by JSON and is a
number, as with 'E', a decimal mantissa or two digits of a signed exponent; `5e-5` is one beside a
plain number and `5e - 5` elsewhere. `\sqrt{1/m}` is `1/\sqrt{m}`: letters are real, and two
expressions equal that have one domain and the same values on it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache

from rlstep.scoring.answers.amounts import amount
from rlstep.scoring.answers.answer_text import number, plain, same_text
from rlstep.scoring.answers.forms import equal_clocks, in_base, ratio
from rlstep.scoring.answers.notation import formal, listing, stripped, unwrapped, words, written
from rlstep.scoring.answers.symbolic import parsed, rounds_to, symbols_equal
from rlstep.scoring.answers.units import Unit, conversion
from rlstep.types import Verdict

_LONGEST = 1000  # characters; a longer "answer" is compared as text only
_DEEPEST = 50  # brackets inside one another; deeper ones as well
_DECIMALS = 6  # to which numbers are rounded where one is a decimal, as by Math-Verify
_APART = Fraction(1, 10_000)  # of the larger: numbers farther apart are two, whatever they round to
_MATHEMATICS = re.compile(
    r"(?:(?!__|\.[a-zA-Z_]|(?<![a-zA-Z)'])')[\sa-zA-Z0-9+\-*/^_=<>!|()\[\]{}.,;:%&\\'])*"
)

_EQUALS = re.compile(r"(?<![\\<>!=])=(?![^{}]*(?<!\\)\})")  # outside braces
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])")
_OPERATION = re.compile(r"\\(?:frac|sqrt|cdot|times|div|pm)(?![a-zA-Z])")
_NAME = re.compile(r"(?![0-9])(?:\^\{-1\}|[^-+*/^<>])+")
_SIDE = r"\s*\{\s*(?:d|\\partial(?![a-zA-Z]))(?:[^{}]|\{[^{}]*\})*\}"
_DERIVED = re.compile(
    rf"\\frac{_SIDE}{_SIDE}(?:\s*(?:\([^()]*\)|\[[^\[\]]*\]|[a-zA-Z]\([a-zA-Z]\)))?|d[a-z]/d[a-z]|[a-zA-Z]('+|\^\{{?(\\prime)+\}}?)(\([a-z]\))?"
)
_AT_A_POINT = re.compile(r"^\.?(\\frac.*)\|_\s*(?:\{[^{}]*\}|[0-9a-z])")
_VARIABLE = re.compile(r"(?:[a-zA-Z]|\\[a-zA-Z]+)(?:_(?:[0-9a-zA-Z]|\{[0-9a-zA-Z]+\}))?")
_MEMBER = re.compile(r"[a-zA-Z]\s*\\in\s*(?=[(\[]|\\\{|\\mathbb|\\emptyset)")
_BUILDER = re.compile(
    r"\\\{\s*([a-zA-Z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid(?![a-zA-Z])|\||:)(.*)\\\}"
)
_APPLIED = re.compile(r"([a-zA-Z]'*)\s*\(([^()]*)\)\s*=")
_ROW = re.compile(r"[-+]?[0-9.,/]*[0-9](?: [-+]?[0-9.,/]*[0-9])+")  # of numbers
_MIXED = re.compile(r"(^|[-+=<>,(\[{]) ?([0-9]+) ([0-9]+/[0-9]+)(?![0-9])")
_SMALL_E = re.compile(r"([-+]?[0-9]+)[eE]([-+][0-9]{1,3})")
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:\(([A-Z])\)|([A-Z])(?=$|[.):]))[.):]*(?:\s+(.+))?",
    re.IGNORECASE,
)


def compare(extracted: str, answer: str) -> Verdict:
    """Compare an extracted answer with the reference; the verdict depends on nothing else.

    CORRECT is symmetric in the two. What is not is UNPARSABLE: it says that the extracted answer,
    which does not have the reference's text, is no mathematics and no words.

    Raises:
        ValueError: the reference answer is empty.
    """
    found, reference = plain(extracted), plain(answer)
    if not reference:
        raise ValueError("the reference answer is empty")
    if same_text(found, reference):
        return Verdict.CORRECT
    if not found or not _readable(found):
        return Verdict.UNPARSABLE
    if not _readable(reference):
        return Verdict.WRONG
    return _compare_values(_priced(found, extracted), _priced(reference, answer))


def _readable(answer: str) -> bool:
    """Whether an answer may be read: of bearable size, in the characters of mathematics.

    No quotes, no '__', and no '.' before a letter: nothing that a program needs to reach anything.
    (A prime is one after a letter or a bracket.)
    """
    if len(answer) > _LONGEST or not _MATHEMATICS.fullmatch(answer):
        return False
    depth = deepest = 0
    for bracket in re.findall(r"[(\[{]|[)\]}]", answer):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest <= _DEEPEST


def _priced(answer: str, text: str) -> str:
    r"""With the dollars that `\$5` or a lone '$' names, which `plain` drops."""
    if "$" not in text or number(answer) is None:
        return answer
    return answer + " dollars" if r"\$" in text or text.count("$") == 1 else answer


@lru_cache(maxsize=8192)
def _compare_values(found: str, reference: str) -> Verdict:
    value, target = number(found), number(reference)
    if value is not None and target is not None:
        return Verdict.CORRECT if _equal_numbers(found, reference) else Verdict.WRONG
    one, other = written(found), written(reference)
    if same_text(one, other) or _equal(one, other):
        return Verdict.CORRECT
    return Verdict.WRONG if _parses(one) else Verdict.UNPARSABLE


def _equal_numbers(one: str, other: str) -> bool:
    value, target = number(one), number(other)
    assert value is not None and target is not None
    rounded = "." in one + other and round(value, _DECIMALS) == round(target, _DECIMALS)
    return value == target or (rounded and near(value, target))


def near(value: Fraction, other: Fraction) -> bool:
    """Whether two numbers are the same but for rounding; 0 is near to 0 only."""
    return bool(abs(value - other) <= _APART * max(abs(value), abs(other)))


def _parses(answer: str) -> bool:
    """Whether it is words, or mathematics that the grammar takes."""
    items = listing(answer)
    if items and items[1]:
        return all(_parses(item) for item in items[1])
    value, _ = amount(_last_side(answer) if _EQUALS.search(answer) else answer)
    shown = unwrapped(answer).strip()
    if number(value) is not None or words(value) or _CHOICE.fullmatch(shown) or in_base(shown):
        return True
    shown = formal(value)
    return shown is not None and bool(parsed(shown))


def _equal(one: str, other: str) -> bool:
    one, other = _beside(one, other), _beside(other, one)
    if same_text(one, other):
        return True
    bare, target = (" ".join(unwrapped(answer).split()) for answer in (one, other))
    clocks = equal_clocks(bare, target)
    if clocks is not None:
        return clocks
    one, other = ratio(bare) or one, ratio(target) or other
    choice = _equal_choices(one, other)
    if choice is not None:
        return choice
    (value, unit), (target, target_unit) = amount(one), amount(other)
    if unit and target_unit:
        return _equal_amounts((value, unit), (target, target_unit))
    if "%" in (unit, target_unit):
        percentage, bare = (value, target) if unit else (target, value)
        return _equal_values(percentage, bare) or _equal_values(_hundredth(percentage), bare)
    return _equal_values(value, target)


def _hundredth(value: str) -> str:
    exact = number(value)
    if exact is None:
        return rf"\frac{{{value}}}{{100}}"
    return str(Decimal(value.replace(",", "")).scaleb(-2)) if "." in value else str(exact / 100)


def _beside(answer: str, other: str) -> str:
    """What an answer says where the other is a bare value."""
    answer, other = (re.sub(r"^\\approx(?![a-zA-Z])\s*", "", each) for each in (answer, other))
    exact, sign, decimals = answer.rpartition(r"\approx")
    if sign and ("." not in other or sign in other):
        exact = _last_side(exact.strip())
        if (shown := formal(exact)) and rounds_to(shown, decimals.strip()):
            return stripped(exact)
    answer = re.sub(r"\\approx(?![a-zA-Z])", "=", answer)
    if _EQUALS.search(other):
        answer = _by_name(answer)
    if (built := _BUILDER.fullmatch(answer)) and _RELATION.search(built[2]):
        answer = built[2].strip()
    answer = _MEMBER.sub("", answer, count=1)
    if number(other) is not None and (small := _SMALL_E.fullmatch(answer)):
        return str(Fraction(small[1]) * Fraction(10) ** int(small[2]))
    if _EQUALS.search(answer) and not (_EQUALS.search(other) or r"\approx" in other):
        answer = _last_side(answer)
    return stripped(answer)


def _by_name(answer: str) -> str:
    """'x = 1, y = 2' of '(x, y) = (1, 2)'; all else as it is."""
    sides = [found for side in _EQUALS.split(answer) if (found := listing(side.strip()))]
    if len(sides) != 2 or len(_EQUALS.findall(answer)) != 1:
        return answer
    (kind, names), (other, values) = sides
    if not (kind == other == "()") or len(names) != len(values):
        return answer
    if not all(_VARIABLE.fullmatch(name) for name in names):
        return answer
    return ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))


def _last_side(equation: str) -> str:
    """'5' of 'x = 5', '5 = x', 'f(3) = 5', '2 + 3 = 5' or 'A = 2 + 3 = 5'; all of one that
    constrains its letters ('2x = 5', 'x^2 + y = 5'), or of several equations."""
    equation = _AT_A_POINT.sub(r"\1", equation)
    first, *others = (side.strip() for side in _EQUALS.split(equation))
    if not others:
        return equation
    several = len(others) > 1 and re.search(r"[,;]|\b(?:and|or)\b", equation)
    if several or _RELATION.search(equation):
        return equation
    items = listing(equation)
    if items and sum(bool(_EQUALS.search(item)) for item in items[1]) > 1:
        return equation
    if _DERIVED.fullmatch(unwrapped(first).strip()):
        return others[-1]
    bare = _OPERATION.sub("", first)
    arithmetic = not re.search(r"[a-zA-Z]", bare)
    if arithmetic and _VARIABLE.fullmatch(others[-1]) and others[-1] not in ("e", "i", r"\pi"):
        return [first, *others][-2]
    named = _NAME.fullmatch(first) and not _OPERATION.search(first)
    return others[-1] if arithmetic or named else equation


def _equal_choices(one: str, other: str) -> bool | None:
    r"""Of '(B)', 'B', 'Option B' and `\textbf{(B)}\ 12`: by letter, and by value where both have
    one; None where one is no choice, or both are a letter of algebra."""
    first, second = (
        _CHOICE.fullmatch(" ".join(unwrapped(answer).split())) for answer in (one, other)
    )
    if not first or not second:
        return None
    if (first[1] or first[2]) != (second[1] or second[2]):
        return False
    return not (first[3] and second[3]) or _equal(first[3], second[3])


# --- units ---------------------------------------------------------------------------------------


def _equal_amounts(one: tuple[str, Unit | str], other: tuple[str, Unit | str]) -> bool:
    units = one[1], other[1]
    if isinstance(units[0], str) or isinstance(units[1], str):
        return units[0] == units[1] and _equal_values(one[0], other[0])
    factors = conversion(*units)  # type: ignore[arg-type]
    if factors is None:
        return False
    return _equal_values(
        *(_times(value, *f) for (value, _), f in zip((one, other), factors, strict=True))
    )


def _times(value: str, summand: str, factor: str) -> str:
    if (summand, factor) == ("0", "1"):
        return value
    exact = number(value)
    if exact is not None and "\\" not in factor:
        changed = (exact + Fraction(summand)) * Fraction(factor)
        return str(changed)
    return rf"(({value}) + {summand}) \cdot ({factor})"


# --- values --------------------------------------------------------------------------------------


def _equal_values(one: str, other: str) -> bool:
    one, other = stripped(one.strip()), stripped(other.strip())
    if same_text(one, other):
        return True
    if number(one) is not None and number(other) is not None:
        return _equal_numbers(one, other)
    items, others = _listed(one), _listed(other)
    if items and others:
        return _equal_lists(items, others)
    single = items or others
    if single and single[0] == "{}" and len(single[1]) == 1:
        return _equal(single[1][0], other if items else one)
    if (
        bool(items) != bool(others)
        and not _RELATION.search(one + other)
        and not re.search(r"\\(?:cup|cap|setminus|pm|emptyset|mathbb)", one + other)
    ):
        return False
    return _equal_scalars(one, other)


def _listed(answer: str) -> tuple[str, tuple[str, ...]] | None:
    r"""`listing`, with `a \pm b` as the bare list of both, and 'x = 1, 2' as that of the values."""
    if answer.count(r"\pm") == 1 and not re.search(r"[,;{]", answer.split(r"\pm")[0][-2:]):
        plus, minus = re.sub(r"\\pm", "+", answer), re.sub(r"\\pm", "-", answer)
        if listing(answer) is None:
            return "", (plus.strip().lstrip("+ "), minus.strip())
    items = listing(answer)
    if not items or items[0] or len(items[1]) < 2:
        return items
    names = [item.partition("=")[0].strip() if _EQUALS.search(item) else "" for item in items[1]]
    named = names[0] and set(names) <= {names[0], ""}
    if named:
        return "", tuple(
            item.partition("=")[2].strip() if name else item
            for name, item in zip(names, items[1], strict=True)
        )
    return items


def _equal_lists(one: tuple[str, tuple[str, ...]], other: tuple[str, tuple[str, ...]]) -> bool:
    (kind, items), (other_kind, others) = one, other
    if kind != other_kind and "" not in (kind, other_kind):
        return False
    if len(items) != len(others) and not kind == other_kind == "{}":
        return False
    if kind in ("", "{}") and other_kind in ("", "{}"):
        return _all_found(items, others) and _all_found(others, items)
    if {kind, other_kind} - {"", "()", "[]"} and kind != other_kind:
        return False
    return all(_equal(a, b) for a, b in zip(items, others, strict=True))


def _all_found(items: tuple[str, ...], others: tuple[str, ...]) -> bool:
    return all(any(_equal(item, other) for other in others) for item in items)


def _equal_scalars(one: str, other: str) -> bool:
    based, target = in_base(unwrapped(one).strip()), in_base(unwrapped(other).strip())
    if based and target:
        return based == target
    if based or target:
        digits, bare = (based, other) if based else (target, one)
        return bool(digits and digits[0] == bare.upper())
    said, also = words(one), words(other)
    if said is not None or also is not None:
        return said == also
    first, second = _APPLIED.match(one), _APPLIED.match(other)
    if first and second:
        if first[1] != second[1] or not _equal(first[2], second[2]):
            return False
        return _equal(one[first.end() :].strip(), other[second.end() :].strip())
    (name, value), (target_name, target) = _assigned(one), _assigned(other)
    if name and name == target_name:
        return _equal(value, target)
    one, other = (_MIXED.sub(r"\1(\2+\3)", answer) for answer in (one, other))
    if _ROW.fullmatch(one) or _ROW.fullmatch(other):  # of which the grammar takes the sum
        return False
    first, second = formal(one), formal(other)
    if first is None or second is None or _constrains(one, other):
        return False
    return symbols_equal(first, second)


def _assigned(answer: str) -> tuple[str, str]:
    r"""('A', '\{1,2\}') of 'A = \{1,2\}', where the value is a set, interval, pair or matrix:
    such a relation the grammar takes for false. Two empty texts of all else."""
    name, _, value = (part.strip() for part in answer.partition("="))
    several = listing(value) is not None or "matrix" in value or r"\cup" in value
    return (name, value) if several and _VARIABLE.fullmatch(name) else ("", "")


def _constrains(one: str, other: str) -> bool:
    """Whether one is an equation that is no assignment, and the other a single value.

    Math-Verify takes 'x + y' for a name, and so 'x + y = 1' for 1. (A set may be an equation's.)
    """
    one_is, other_is = bool(_EQUALS.search(one)), bool(_EQUALS.search(other))
    value = other if one_is else one
    return one_is != other_is and not re.search(r",|\\\{|\\cup", value)


@cache
def load() -> None:
    """Compare once: Math-Verify's imports and first use take a second, which no item should pay."""
    symbols_equal("x + 1", "1 + x")
