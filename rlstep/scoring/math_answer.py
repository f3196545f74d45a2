r"""The verifier of mathematics: finds the final answer of a solution and compares it by value.

Model text is never evaluated: numbers are read by a regular expression, and everything else goes
through Math-Verify's LaTeX grammar. Its second parser, for bare expressions, is sympy's
`parse_expr`, which is Python's `eval`; it is not used.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from rlstep.interfaces import Verifier
from rlstep.scoring.answer_text import NUMBER, number, plain, same_text
from rlstep.types import OutcomeScore, Verdict

_LONGEST = 1000  # characters; a longer "answer" is compared as text only

_HASHES = re.compile(r"####[ \t]*(?=[-+.$\\({\[0-9])(.*)")  # not a Markdown heading of words
_PHRASE = re.compile(
    r"(?:^[ \t>*_]*(?:the |final |my )*(?:answer|a)[ \t*_]*:|\banswer(?:[ \t]+is\b|:))"
    r"[ \t:*]*(?=\S)(.*?)(?:\.(?:\s|$)|$)",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBERS = re.compile(rf"(?<![0-9a-zA-Z)]){NUMBER}(?<=[0-9])|[0-9]+")
_WITH_UNIT = re.compile(rf"({NUMBER})\s+([a-zA-Z]{{2,}}(?:[ ./-][a-zA-Z]+)*)")
_NO_UNITS = re.compile(
    r"\b(?:pi|sqrt|percent|half|dozen|hundred|thousand|million|billion|trillion|and|or|to|times|plus"
    r"|minus|over|squared|cubed)\b",
    re.IGNORECASE,
)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.findall(text)
    return found[-1] if found else None


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{}` or `\fbox{}` holds, '' where its brace never closes."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    start = text.index("{", start) + 1
    depth = 1
    for token in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return text[start : start + token.start()]
    return ""


_RULES = {
    "hashes": lambda text: _last(_HASHES, text),
    "boxed": last_boxed,
    "phrase": lambda text: _last(_PHRASE, text),
    "number": lambda text: _last(_NUMBERS, text),
}


@dataclass(frozen=True, kw_only=True)
class MathAnswer(Verifier):
    r"""Finds the final answer by the first rule that applies, and compares it with the reference.

    An answer is correct if it is the reference as text, or as a plain number, or if Math-Verify
    finds the two equal (the reference first: its comparison is not symmetric). It is unparsable if
    no rule applies, if what was found is empty (an empty or unfinished box), or if it is neither
    the reference's text nor mathematics. Units after a number ('18 dollars') are dropped.
    """

    rules: tuple[str, ...] = ("hashes", "boxed", "phrase", "number")
    r"""In order of precedence, each reading its last occurrence: 'hashes' is `#### 18` (GSM8K),
    'boxed' is `\boxed{18}`, 'phrase' is 'The answer is 18', 'Answer: 18' or, at the start of a
    line, 'A: 18'; 'number' is the last number of the text."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError(f"math_answer.rules is empty; it takes some of {list(_RULES)}")
        for rule in self.rules:
            if rule not in _RULES:
                nearest = difflib.get_close_matches(rule, _RULES, n=1, cutoff=0.0)[0]
                raise ValueError(f"math_answer.rules has {rule!r}; did you mean {nearest!r}?")

    def verify(self, text: str, answer: str) -> OutcomeScore:
        """Score one solution.

        Raises:
            ValueError: the reference answer is empty.
        """
        _load()
        extracted = self.extract(text)
        verdict = compare(extracted, answer)
        value = float(verdict is Verdict.CORRECT)
        return OutcomeScore(value=value, verdict=verdict, extracted=extracted)

    def extract(self, text: str) -> str:
        """The final answer as it stands in the text, '' if there is none."""
        found = (_RULES[rule](text) for rule in self.rules)
        return next((answer.strip() for answer in found if answer is not None), "")


def compare(extracted: str, answer: str) -> Verdict:
    """Compare an extracted answer with the reference; the verdict depends on nothing else."""
    found, reference = plain(extracted), plain(answer)
    if not reference:
        raise ValueError("the reference answer is empty")
    if same_text(found, reference):
        return Verdict.CORRECT
    if not found or len(found) > _LONGEST:
        return Verdict.UNPARSABLE
    return _compare_values(found, reference)


@lru_cache(maxsize=8192)
def _compare_values(found: str, reference: str) -> Verdict:
    target = number(reference)
    if target is not None:
        found = _without_unit(found)
    value = number(found)
    if value is not None and target is not None:
        if value == target:
            return Verdict.CORRECT
        if value.denominator == target.denominator == 1:
            return Verdict.WRONG
    return _compare_symbolically(found, reference)


def _without_unit(answer: str) -> str:
    match = _WITH_UNIT.fullmatch(answer)
    if match is None or _NO_UNITS.search(match[2]):
        return answer
    return match[1]


@cache
def _load() -> None:
    """Compare once: Math-Verify's imports and first use take a second, which no item should pay."""
    _compare_symbolically("x + 1", "1 + x")


def _compare_symbolically(found: str, reference: str) -> Verdict:
    from math_verify import verify

    expressions = _parse(found)
    # No timeout here: Math-Verify's is a signal handler; the pool around us kills instead.
    if verify(_parse(reference), expressions, timeout_seconds=None, raise_on_error=True):
        return Verdict.CORRECT
    parsed = any(not isinstance(expression, str) for expression in expressions)
    return Verdict.WRONG if parsed else Verdict.UNPARSABLE


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
