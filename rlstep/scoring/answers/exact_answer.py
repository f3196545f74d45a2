"""The verifier of tasks whose answer format is fixed, such as `#42`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlstep.interfaces import Verifier
from rlstep.scoring.answers.answer_text import number, plain, same_text
from rlstep.scoring.answers.extraction import cut_off, one_group
from rlstep.thoughts import ThoughtTags
from rlstep.types import OutcomeScore, Verdict


@dataclass(frozen=True, kw_only=True)
class ExactAnswer(Verifier):
    """Compares what a regular expression finds last with the reference.

    Both are normalised first (`answer_text.plain`), and two plain numbers are compared by value.
    """

    pattern: str
    """One group, the answer: r'#(-?[0-9]+)' reads '7' from '3+4=7 #7'."""
    thoughts: ThoughtTags = ThoughtTags()
    """Only what stands after the last thought is read; an unfinished one is unparsable."""

    def __post_init__(self) -> None:
        one_group("exact_answer.pattern", self.pattern)

    def verify(self, text: str, answer: str, finish_reason: str = "stop") -> OutcomeScore:
        """Score one completion; an answer at which `max_tokens` cut it off is unparsable."""
        said = self.thoughts.after(text)
        found = re.findall(self.pattern, said) if said is not None else []
        if not found:
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
        if finish_reason == "length" and cut_off(text, found[-1]):
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted=found[-1])
        extracted, reference = plain(found[-1]), plain(answer)
        value = number(extracted)
        equal = same_text(extracted, reference) or (
            value is not None and value == number(reference)
        )
        verdict = Verdict.CORRECT if equal else Verdict.WRONG
        return OutcomeScore(value=float(equal), verdict=verdict, extracted=found[-1])
