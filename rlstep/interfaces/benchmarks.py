"""What a model that scores is measured on by itself, without a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.types import Rollout, Score


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Case:
    """One entry of a benchmark: what is scored, and what is known of it."""

    subset: str
    """The named part of the benchmark that it is of."""
    rollouts: tuple[Rollout, ...]
    """A solution whose steps are scored; or answers that are compared, the best one first."""
    first_error: int | None = None
    """Index of the solution's first wrong step, None for no error. Of answers nothing is known."""


class Benchmark(ABC):
    """Solutions or answers with what is known of them, and the numbers that a published protocol
    makes of their scores. Nothing is ever trained on it.

    Cases of which a score failed are counted as such, and no number is of them.
    """

    name: str
    """Of the benchmark; its numbers are metrics '<name>/...'."""
    knows_first_errors: ClassVar[bool] = False
    """Whether it says of every case where the first wrong step is, which needs step scores."""

    @abstractmethod
    def cases(self, tokenizer: Any) -> list[Case]:
        """All of them, the same ones every time.

        Args:
            tokenizer: the model's, a fast Hugging Face tokenizer.

        Raises:
            ValueError: the data do not fit; names the file, its line and the field.
        """

    @abstractmethod
    def figures(self, cases: Sequence[Case], scores: Sequence[Sequence[Score]]) -> dict[str, float]:
        """The protocol's numbers, by name.

        Args:
            cases: as `cases` made them.
            scores: the model's, of every rollout of each case.

        Raises:
            ValueError: no number can be made of them; says why.
        """
