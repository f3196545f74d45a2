"""Judgments against the known right verdict."""

from __future__ import annotations

import pytest

from rlstep.scoring.answers.verdict_answer import VerdictAnswer
from rlstep.types import OutcomeScore, Verdict
from tests.scoring.processes.patient_pool import PatientPool


@pytest.mark.parametrize(
    ("text", "answer", "verdict", "extracted"),
    [
        ("B is sloppy.\nVerdict: A", "A", Verdict.CORRECT, "A"),
        ("B is sloppy.\nVerdict: A", "B", Verdict.WRONG, "A"),
        ("Verdict: A\nVerdict: B", "B", Verdict.CORRECT, "B"),
        ("Verdict: TIE", "A", Verdict.UNPARSABLE, ""),
        ("A is better.", "A", Verdict.UNPARSABLE, ""),
        ("", "A", Verdict.UNPARSABLE, ""),
    ],
)
def test_verdicts(text: str, answer: str, verdict: Verdict, extracted: str):
    value = 1.0 if verdict is Verdict.CORRECT else 0.0
    assert VerdictAnswer().verify(text, answer) == OutcomeScore(
        value=value, verdict=verdict, extracted=extracted
    )


async def test_it_runs_in_the_pool():
    with PatientPool(VerdictAnswer(words=("YES", "NO")), workers=1) as pool:
        outcomes = await pool.verify([("Verdict: YES", "YES"), ("Verdict: YES", "NO")])
    assert [o.value for o in outcomes if isinstance(o, OutcomeScore)] == [1.0, 0.0]


def test_words_that_can_never_be_read_are_refused():
    with pytest.raises(ValueError, match=r"verdict_answer.words is \('a',\); each must be"):
        VerdictAnswer(words=("a",))
