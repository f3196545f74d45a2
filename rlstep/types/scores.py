"""What a scorer says of a completion, of its steps or of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import TypeAlias

from rlstep.types.arrays import Floats, Ints


class Verdict(StrEnum):
    """What an answer verifier can say. Anything else is a `Failure`."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """How a judge's judgments of a completion came out; a pairwise vote is one of either order."""

    correct: int
    wrong: int
    tied: int
    """Pairwise only: the judge called it a tie, or followed the order and not the texts."""
    unparsable: int
    """No verdict could be read."""
    failed: int
    """No judgment came at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeScore:
    """The score of a whole completion."""

    value: float
    """1.0 for a correct answer, 0.0 for a wrong or unparsable one; of a judge that votes the share
    of votes that it is correct, in [0, 1], ties counting one half."""
    verdict: Verdict
    """Of a judge that votes the majority's."""
    extracted: str
    """The answer as it was read from the completion, '' if there was none."""
    votes: Votes | None = None
    """None where no judge was asked."""
    grade: float | None = None
    """How good the answer is, in [0, 1], where a verifier knows more than right and wrong; see
    `Grades`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutScore:
    """One number for a whole rollout from one source: form, length, language, a remote service."""

    value: float
    """Finite, in the range that its source documents."""
    detail: str = ""
    """What the number was made from, for people to read."""

    def __post_init__(self) -> None:
        assert isfinite(self.value), f"a score of {self.value}: its source owes a Failure"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepScores:
    """One number per step from one source."""

    values: Floats
    """float32 [K]; probabilities in [0, 1] for a PRM, success rates k/n for Monte Carlo."""
    version: int
    """Version of the model that made them: PRM updates, or the policy's for Monte Carlo."""
    n: Ints | None = None
    """int32 [K]: continuations drawn per step (0: step not labelled)."""
    k: Ints | None = None
    """int32 [K]: how many of them reached a correct answer."""
    truncated: Ints | None = None
    """int32 [K]: how many of them were cut at max_tokens (counted as not correct)."""
    visits: Ints | None = None
    """int32 [2, V, K]: n and k of each visit, in order, where steps were looked at more than once;
    they add up to n and k."""
    log_sigma: Floats | None = None
    """float32 [K]: log standard deviation, where the scorer estimates it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenScores:
    """One number per completion token from one source: a critic's values, implicit rewards."""

    values: Floats
    """float32 [T]."""
    version: int
    """Version of the model that made them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What went wrong, as a value. Counted by reason; never turned into a score."""

    reason: str
    """A short, stable word for counting: 'timeout', 'generator_lost', 'stale', ..."""
    detail: str = ""


Score: TypeAlias = StepScores | TokenScores | RolloutScore | OutcomeScore | Failure
