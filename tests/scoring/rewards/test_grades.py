"""The grade that a verifier gives beside its verdict, on its way to a score."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from rlstep.interfaces import Verifier
from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.scoring.rewards.grades import Grades
from rlstep.types import Failure, OutcomeScore, Rollout, RolloutScore, Verdict
from tests.builders import make_rollout


@dataclass(frozen=True, kw_only=True)
class NearlyRight(Verifier):
    """One tenth less for every one that a number is off."""

    def verify(self, text: str, answer: str) -> OutcomeScore:
        grade = 1.0 - abs(int(text) - int(answer)) / 10
        verdict = Verdict.CORRECT if grade == 1.0 else Verdict.WRONG
        return OutcomeScore(value=float(grade == 1.0), verdict=verdict, extracted=text, grade=grade)


def graded(grade: float | None) -> Rollout:
    rollout = make_rollout("r", [[1]], outcome=0.0)
    assert rollout.outcome is not None
    return rollout.with_scores(outcome=replace(rollout.outcome, grade=grade))


async def test_grades_come_through_the_pool_and_stand_in_their_range() -> None:
    with VerifierPool(NearlyRight(), workers=1) as pool:
        right, near, outside = await pool.verify([("42", "42"), ("40", "42"), ("0", "42")])
    assert isinstance(right, OutcomeScore) and isinstance(near, OutcomeScore)
    assert (right.value, right.verdict, right.grade) == (1.0, Verdict.CORRECT, 1.0)
    assert (near.value, near.verdict, near.grade) == (0.0, Verdict.WRONG, 0.8)
    assert isinstance(outside, Failure) and "a grade of -3.2, not in [0, 1]" in outside.detail


@pytest.mark.parametrize("grade", [0.0, 0.25, 1.0])
def test_the_score_is_the_grade(grade: float) -> None:
    score = Grades().score(graded(grade))
    assert isinstance(score, RolloutScore) and score.value == grade


def test_without_a_grade_there_is_no_score() -> None:
    score = Grades().score(graded(None))
    assert isinstance(score, Failure) and score.reason == "no_grade"
    score = Grades().score(make_rollout("r", [[1]], outcome=None))
    assert isinstance(score, Failure) and score.reason == "no_outcome"
