"""The verifier of judgments whose right verdict is known."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.interfaces import Verifier
from rlstep.scoring.judges.judgment_text import read_verdict
from rlstep.types import Failure, OutcomeScore, Verdict


@dataclass(frozen=True, kw_only=True)
class VerdictAnswer(Verifier):
    """Compares the verdict on a judgment's last line with the known right one.

    Strict (`judgment_text.read_verdict`): a judgment that does not end with `Verdict: ` and one of
    the words, and nothing else on that line, is unparsable.
    """

    words: tuple[str, ...] = ("A", "B")
    """The verdicts that there are."""

    def __post_init__(self) -> None:
        if not all(word.isupper() and word.isalpha() and word.isascii() for word in self.words):
            raise ValueError(
                f"verdict_answer.words is {self.words}; each must be of the letters A to Z"
            )

    def verify(self, text: str, answer: str) -> OutcomeScore:
        word = read_verdict(text, self.words)
        if isinstance(word, Failure):
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
        right = word == answer
        verdict = Verdict.CORRECT if right else Verdict.WRONG
        return OutcomeScore(value=float(right), verdict=verdict, extracted=word)
