"""Constraints that an answer of a few words is checked against exactly, and their verifier.

An answer is words of small letters between separators: a space, a comma with a space, or a new
line. What can be asked of it stands in `RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from rlstep.interfaces import Verifier
from rlstep.types import OutcomeScore, Verdict

SPACE, COMMA, LINE = SEPARATORS = (" ", ", ", "\n")
_WORD = "[a-z]+"
_ANSWER = re.compile(rf"{_WORD}(?:(?:, | |\n){_WORD})*")


@dataclass(frozen=True, slots=True)
class Words:
    """An answer as it was read."""

    words: tuple[str, ...]
    """At least one."""
    separators: frozenset[str]
    """Those that stand in it; none of a single word."""

    @property
    def letters(self) -> int:
        return sum(map(len, self.words))


Check: TypeAlias = Callable[[Words], bool]


def _before(first: str, second: str) -> Check:
    def check(said: Words) -> bool:
        both = first in said.words and second in said.words
        return both and said.words.index(first) < said.words.index(second)

    return check


RULES: Mapping[str, Callable[..., Check]] = {
    r"exactly (\d+) words": lambda n: lambda said: len(said.words) == int(n),
    r"at most (\d+) letters": lambda n: lambda said: said.letters <= int(n),
    rf"with ({_WORD})": lambda word: lambda said: word in said.words,
    rf"without ({_WORD})": lambda word: lambda said: word not in said.words,
    rf"({_WORD}) before ({_WORD})": _before,
    rf"starts with ({_WORD})": lambda word: lambda said: said.words[0] == word,
    rf"ends with ({_WORD})": lambda word: lambda said: said.words[-1] == word,
    r"no word twice": lambda: lambda said: len(set(said.words)) == len(said.words),
    r"separated by commas": lambda: lambda said: said.separators <= {COMMA},
    r"one word a line": lambda: lambda said: said.separators <= {LINE},
}
"""What a constraint reads like, and what it asks. 'a before b' wants both, and of each the first
time that it is said; letters are counted without separators; a single word has no separator, and so
every format."""


def read_answer(text: str) -> Words | None:
    """The words of an answer; None where it is anything but words and separators."""
    if _ANSWER.fullmatch(text) is None:
        return None
    return Words(
        words=tuple(re.findall(_WORD, text)), separators=frozenset(re.findall(r", | |\n", text))
    )


@lru_cache(maxsize=1 << 14)
def read_constraint(text: str) -> Check:
    """What a constraint asks.

    Raises:
        ValueError: it reads like none of `RULES`.
    """
    for pattern, rule in RULES.items():
        if match := re.fullmatch(pattern, text):
            return rule(*match.groups())
    raise ValueError(f"constraint {text!r} reads like none of {', '.join(RULES)}")


def violated(constraints: Sequence[str], text: str) -> list[str]:
    """The constraints that an answer does not meet, in their order: all of them, where it cannot
    be read."""
    checks = [read_constraint(constraint) for constraint in constraints]
    said = read_answer(text)
    return [
        constraint
        for constraint, check in zip(constraints, checks, strict=True)
        if said is None or not check(said)
    ]


@dataclass(frozen=True, kw_only=True)
class ConstraintsMet(Verifier):
    """Checks every constraint that stands in the prompt's meta, and says which are met.

    Strict: CORRECT, and 1, where all of them are. The grade is the share that is met (see
    `Grades`), 0 of an answer that cannot be read or was cut off, which is UNPARSABLE.
    """

    def verify(
        self, text: str, answer: str, row: Mapping[str, Any], finish_reason: str = "stop"
    ) -> OutcomeScore:
        """Score one completion.

        Args:
            answer: one that meets all of them; any other is as good.
            row: with 'constraints', a list of texts.

        Raises:
            ValueError: there are none, or one reads like none of `RULES`.
        """
        constraints = row.get("constraints")
        if not constraints:
            raise ValueError("row has no 'constraints'; they are what constraints_met checks")
        missed = violated(constraints, text)
        if read_answer(text) is None or finish_reason == "length":
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="", grade=0.0)
        return OutcomeScore(
            value=float(not missed),
            verdict=Verdict.WRONG if missed else Verdict.CORRECT,
            extracted=text,
            grade=1.0 - len(missed) / len(constraints),
        )
