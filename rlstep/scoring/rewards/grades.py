"""What a verifier knows of an answer beside right and wrong, as a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlstep.checks import named
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.types import Failure, Rollout, RolloutScore


@dataclass(frozen=True, kw_only=True)
class Grades(EachRollout):
    """The grade that the verifier gave with its verdict, in [0, 1].

    For `GroupAdvantages(source="grade")` and the like: an answer that is nearly right is worth more
    than one that is not, while accuracy stays what it is. A rollout whose verifier gives none
    (`MathAnswer`, most others) is a Failure('no_grade').
    """

    reads: ClassVar[frozenset[str]] = frozenset({"outcome"})

    source: str = "grade"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        named("grades.source", self.source)

    def score(self, rollout: Rollout) -> RolloutScore | Failure:
        outcome = rollout.outcome
        if outcome is None:
            return Failure(reason="no_outcome", detail="the verifier did not score this rollout")
        if outcome.grade is None:
            return Failure(reason="no_grade", detail="the verifier knows only right and wrong")
        return RolloutScore(value=outcome.grade, detail=outcome.extracted)
