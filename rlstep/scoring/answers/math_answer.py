r"""The verifier of mathematics: finds the final answer of a solution and compares it by value.

How an answer is found says `extraction`; how two are compared, and what is never read, says
`comparison`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from rlstep.interfaces import Verifier
from rlstep.scoring.answers.comparison import compare, load
from rlstep.scoring.answers.extraction import RULES, cut_off, extract
from rlstep.scoring.answers.unicode_text import straight
from rlstep.thoughts import ThoughtTags
from rlstep.types import OutcomeScore, Verdict


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
        load()
        extracted = self.extract(text)
        verdict = compare(extracted, answer)
        if finish_reason == "length" and cut_off(straight(text), extracted):
            verdict = Verdict.UNPARSABLE
        value = float(verdict is Verdict.CORRECT)
        return OutcomeScore(value=value, verdict=verdict, extracted=extracted)

    def extract(self, text: str) -> str:
        """The final answer as it stands in the text, with ASCII dashes and digits; '' if none."""
        said = self.thoughts.after(straight(text))
        return "" if said is None else extract(said, self.rules)
