"""The verifier of tasks whose answer format is fixed, such as `#42`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlstep.interfaces import Verifier
from rlstep.scoring.answers.answer_text import number, plain, same_text
from rlstep.types import OutcomeScore, Verdict


@dataclass(frozen=True, kw_only=True)
class ExactAnswer(Verifier):
    """Compares what a regular expression finds last with the reference.

    Both are normalised first (`answer_text.plain`), and two plain numbers are compared by value.
    """

    pattern: str
    """One group, the answer: r'#(-?[0-9]+)' reads '7' from '3+4=7 #7'."""

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(
                f"exact_answer.pattern is {self.pattern!r}, no regular expression: {error}"
            ) from error
        if groups != 1:
            raise ValueError(f"exact_answer.pattern has {groups} groups; it needs exactly 1")

    def verify(self, text: str, answer: str) -> OutcomeScore:
        found = re.findall(self.pattern, text)
        if not found:
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
        extracted, reference = plain(found[-1]), plain(answer)
        value = number(extracted)
        equal = same_text(extracted, reference) or (
            value is not None and value == number(reference)
        )
        verdict = Verdict.CORRECT if equal else Verdict.WRONG
        return OutcomeScore(value=float(equal), verdict=verdict, extracted=found[-1])
