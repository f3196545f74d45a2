r"""The verifier of mathematics: finds the final answer of a solution and compares it by value.

Model text is never evaluated: numbers are read by a regular expression, and of everything else only
what is made of the characters of mathematics goes on to Math-Verify's LaTeX grammar. Math-Verify's
second parser, for bare expressions, is sympy's `parse_expr`, which is Python's `eval`; it is not
used.

Equality is symmetric: exchanging answer and reference never turns a correct verdict into another.
Math-Verify's is not, since it reads a relation by what the reference is. Here the two are brought
to one form first, by the same rule for both (an equation beside a bare value is read as its last
side, a number with a unit beside a bare number as the number), and then must be equal both ways
round. So `x = 5` is 5 and 5 is `x = 5`, but 5 is not `2x + 3y = 5`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from itertools import product
from typing import Any

from rlstep.interfaces import Verifier
from rlstep.scoring.answers.answer_text import MIXED, NUMBER, number, plain, same_text, unwrapped
from rlstep.scoring.answers.extraction import RULES, cut_off, extract
from rlstep.thoughts import ThoughtTags
from rlstep.types import OutcomeScore, Verdict

_LONGEST = 1000  # characters; a longer "answer" is compared as text only
_DEEPEST = 50  # brackets inside one another; deeper ones as well
_DECIMALS = 6  # to which numbers are rounded where one is a decimal, as by Math-Verify
_APART = Fraction(1, 10_000)  # of the larger: numbers farther apart are two, whatever they round to
_MATHEMATICS = re.compile(r"(?:(?!__|\.[a-zA-Z_])[\sa-zA-Z0-9+\-*/^_=<>!|()\[\]{}.,;:%&\\])*")

_EQUALS = re.compile(r"(?<![\\<>!=])=")
_OPERATION = re.compile(r"\\(?:frac|sqrt|cdot|times|div|pm)(?![a-zA-Z])")
_NAME = re.compile(r"(?![0-9])(?:\^\{-1\}|[^-+*/^<>])+")
_WITH_UNIT = re.compile(rf"({MIXED}|{NUMBER})\s+([a-zA-Z]{{2,}}(?:[ ./-][a-zA-Z]+)*)")
_SCALES = re.compile(  # a second is a unit, and so is a third grader
    r"(?<![a-zA-Z])(?:half|halves|tens|factorial"
    r"|(?:dozen|hundred|thousand|million|billion|trillion)s?"
    r"|(?:third|(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand|million|billion)th)"
    r"(?:s|(?= of\b|$)))(?![a-zA-Z])",
    re.IGNORECASE,
)
_NO_UNITS = re.compile(
    r"\b(?:pi|sqrt|percent|and|or|to|times|plus|minus|over|squared|cubed|[u-z]{2,})\b",
    re.IGNORECASE,
)
_IN_BASE = re.compile(r"([0-9][0-9a-fA-F]*)_\{?([0-9]+)\}?")
_MIXED = re.compile(r"(^|[-+=<>,(\[{]) ?([0-9]+) ([0-9]+/[0-9]+)(?![0-9])")
_ROW = re.compile(r"[-+]?[0-9.,/]*[0-9](?: [-+]?[0-9.,/]*[0-9])+")  # of numbers


@dataclass(frozen=True, kw_only=True)
class MathAnswer(Verifier):
    r"""Finds the final answer by the first rule that applies, and compares it with the reference.

    An answer is correct if it is the reference as text, or as a plain number (to 6 decimals where
    one of the two is written as a decimal), or if of others Math-Verify finds the two equal
    whichever of them it takes for the reference. Numbers that are farther apart than 1/10000 of
    the larger are different, so that nothing but 0 is 0. Numbers in a base, as `101_2`, are
    compared as text. It is unparsable if no rule applies, if what was found is empty (an empty or
    unfinished box), or if it is neither the reference's text nor mathematics. Units beside a bare
    number ('18 dollars') are dropped, words that change its value ('18 million') are not.
    """

    rules: tuple[str, ...] = ("answer|hashes|boxed", "phrase", "number")
    r"""In order of precedence, each reading its last occurrence; of rules joined by '|' the one
    that stands later in the text counts. 'answer' is `<answer>18</answer>`; 'hashes' is `#### 18`
    (GSM8K) where a value, with or without a unit, is all that the line holds; 'boxed' is
    `\boxed{18}`, the last that is not empty, or all that 'or', 'and' or a comma joins to it;
    'phrase' is 'The answer is 18', 'Answer: 18' or, at the start of a line, 'A: 18', without the
    reason that follows; 'number' is the last number of the text."""
    thoughts: ThoughtTags = ThoughtTags()
    """Only what stands after the last thought is read; an unfinished one is unparsable."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError(f"math_answer.rules is empty; it takes some of {list(RULES)}")
        for rule in (name for names in self.rules for name in names.split("|")):
            if rule not in RULES:
                nearest = difflib.get_close_matches(rule, RULES, n=1, cutoff=0.0)[0]
                raise ValueError(f"math_answer.rules has {rule!r}; did you mean {nearest!r}?")

    def verify(self, text: str, answer: str, finish_reason: str = "stop") -> OutcomeScore:
        """Score one solution; an answer at which `max_tokens` cut it off is unparsable, since
        nobody knows how it went on.

        Raises:
            ValueError: the reference answer is empty.
        """
        _load()
        extracted = self.extract(text)
        verdict = compare(extracted, answer)
        if finish_reason == "length" and cut_off(text, extracted):
            verdict = Verdict.UNPARSABLE
        value = float(verdict is Verdict.CORRECT)
        return OutcomeScore(value=value, verdict=verdict, extracted=extracted)

    def extract(self, text: str) -> str:
        """The final answer as it stands in the text, '' if there is none."""
        said = self.thoughts.after(text)
        return "" if said is None else extract(said, self.rules)


def compare(extracted: str, answer: str) -> Verdict:
    """Compare an extracted answer with the reference; the verdict depends on nothing else.

    CORRECT is symmetric in the two. What is not is UNPARSABLE: it says that the extracted answer,
    which does not have the reference's text, is no mathematics.
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
    return _compare_values(found, reference)


def _readable(answer: str) -> bool:
    """Whether an answer may go to the grammar: of bearable size, in the characters of mathematics.

    No quotes, no '__', and no '.' before a letter: nothing that a program needs to reach anything.
    """
    if len(answer) > _LONGEST or not _MATHEMATICS.fullmatch(answer):
        return False
    depth = deepest = 0
    for bracket in re.findall(r"[(\[{]|[)\]}]", answer):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest <= _DEEPEST


@lru_cache(maxsize=8192)
def _compare_values(found: str, reference: str) -> Verdict:
    found, reference = _scaled(found), _scaled(reference)
    found, reference = _beside(found, reference), _beside(reference, found)
    if same_text(found, reference):
        return Verdict.CORRECT
    value, target = number(found), number(reference)
    if value is not None and target is not None:
        rounded = "." in found + reference and round(value, _DECIMALS) == round(target, _DECIMALS)
        equal = value == target or (rounded and _near(value, target))
        return Verdict.CORRECT if equal else Verdict.WRONG
    based, target_based = _IN_BASE.fullmatch(found), _IN_BASE.fullmatch(reference)
    if based and target_based:  # Math-Verify drops the base
        return Verdict.CORRECT if based.groups() == target_based.groups() else Verdict.WRONG
    found, reference = _MIXED.sub(r"\1(\2+\3)", found), _MIXED.sub(r"\1(\2+\3)", reference)
    if _ROW.fullmatch(found) or _ROW.fullmatch(reference):  # of which Math-Verify takes the sum
        return Verdict.WRONG
    return _compare_symbolically(found, reference)


def _near(value: Any, other: Any) -> bool:
    """Whether two numbers are the same but for rounding; 0 is near to 0 only."""
    return bool(abs(value - other) <= _APART * max(abs(value), abs(other)))


def _scaled(answer: str) -> str:
    r"""With a word like 'million' out of its `\text{}`, which Math-Verify drops like a unit's."""
    shown = unwrapped(answer)
    return shown if _SCALES.search(shown) else answer


def _beside(answer: str, other: str) -> str:
    """What an answer says where the other is a bare value, or a bare number."""
    if _EQUALS.search(answer) and not _EQUALS.search(other):
        answer = _last_side(answer)
    match = _WITH_UNIT.fullmatch(answer)
    if not match or number(other) is None:
        return answer
    return answer if _NO_UNITS.search(match[2]) or _SCALES.search(match[2]) else match[1]


def _last_side(equation: str) -> str:
    """'5' of 'x = 5', 'f(3) = 5', '2 + 3 = 5' or 'A = 2 + 3 = 5'; all of one that constrains its
    letters ('2x = 5', 'x^2 + y = 5'), or of several equations."""
    first, *others = _EQUALS.split(equation)
    several = len(others) > 1 and re.search(r"[,;]|\b(?:and|or)\b", equation)
    arithmetic = not re.search(r"[a-zA-Z]", _OPERATION.sub("", first))
    named = _NAME.fullmatch(first.strip()) and not _OPERATION.search(first)
    return others[-1].strip() if (arithmetic or named) and not several else equation


@cache
def _load() -> None:
    """Compare once: Math-Verify's imports and first use take a second, which no item should pay."""
    _compare_symbolically("x + 1", "1 + x")


def _compare_symbolically(found: str, reference: str) -> Verdict:
    expressions, target = _parse(found), _parse(reference)
    undefined = any(_undefined(expression) for expression in (*expressions, *target))
    comparable = not undefined and not _constrains(found, reference)
    if comparable and _verified(target, expressions) and _verified(expressions, target):
        apart = any(_apart(one, other) for one, other in product(expressions, target))
        return Verdict.WRONG if apart else Verdict.CORRECT
    parsed = any(not isinstance(expression, str) for expression in expressions)
    return Verdict.WRONG if parsed else Verdict.UNPARSABLE


def _constrains(one: str, other: str) -> bool:
    """Whether one is an equation that is no assignment, and the other a single value.

    Math-Verify takes 'x + y' for a name, and so 'x + y = 1' for 1. (A set may be an equation's.)
    """
    one_is, other_is = bool(_EQUALS.search(one)), bool(_EQUALS.search(other))
    value = other if one_is else one
    return one_is != other_is and not re.search(r",|\\\{|\\cup", value)


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


@lru_cache(maxsize=1024)
def _parse(answer: str) -> list[Any]:
    """Math-Verify's reading of one answer: an expression where its grammar has one, and text."""
    from math_verify import LatexExtractionConfig, parse

    return parse(
        f"${answer}$",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=-1)],
        extraction_mode="first_match",
        parsing_timeout=None,  # type: ignore[arg-type]  # None is documented, the hint says int
        raise_on_error=True,
    )
