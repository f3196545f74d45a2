"""What the benchmarks of tasks with an exact step oracle share."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlstep.benchmarks.first_errors import FirstErrors
from rlstep.checks import at_least
from rlstep.examples.judged import Judged, judged_rollouts
from rlstep.interfaces import Case
from rlstep.types import Prompt

SPARE = 4
"""Times as many problems as solutions are looked at: not every one has the error that is wanted."""


@dataclass(frozen=True, kw_only=True)
class OracleSteps(FirstErrors):
    """Solutions of a task's held-out problems, every second one with an error.

    In the manner of ProcessBench (arXiv:2412.06559), made and not downloaded; the label is what the
    task's oracle says. What follows the error goes on from it. The same seed makes the same
    solutions. A length is a subset; see `FirstErrors` for the numbers.
    """

    lengths: tuple[int, ...] = ()
    """Of the problems, in the task's own measure; () is the task's own length."""
    number: int = 256
    """Solutions of each length."""
    seed: int = 0
    """Of the solutions; the problems are the task's own held-out ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("benchmarks.number", self.number, 2)
        at_least("benchmarks.seed", self.seed, 0)

    @abstractmethod
    def problems(self, tokenizer: Any) -> dict[str, Sequence[Prompt]]:
        """Held-out problems of each length, by the name of the subset, `SPARE` times `number`."""

    @abstractmethod
    def solution(
        self, prompt: Prompt, rng: np.random.Generator, *, wrong: bool
    ) -> list[str] | None:
        """The texts of a solution's steps, with or without an error; None where the problem has no
        such solution, and the next one is taken."""

    @abstractmethod
    def first_error(self, prompt: Prompt, steps: Sequence[str]) -> int | None:
        """What the task's oracle says."""

    def solutions(self, tokenizer: Any) -> list[Case]:
        return [
            case
            for subset, prompts in self.problems(tokenizer).items()
            for case in self._cases(subset, prompts, tokenizer)
        ]

    def _cases(self, subset: str, prompts: Sequence[Prompt], tokenizer: Any) -> list[Case]:
        rng = np.random.default_rng([self.seed, zlib.crc32(subset.encode())])
        both: list[tuple[Prompt, list[str]]] = []
        for prompt in prompts:
            if len(both) == self.number:
                break
            steps = self.solution(prompt, rng, wrong=len(both) % 2 == 1)
            if steps is not None:
                both.append((prompt, steps))
        if len(both) < self.number:
            raise ValueError(
                f"benchmarks.number is {self.number}, and of {subset!r} there are {len(both)}"
                " solutions; that is the nearest valid value"
            )
        rollouts = judged_rollouts([(p, _unjudged(steps)) for p, steps in both], tokenizer)
        labels = [self.first_error(prompt, steps) for prompt, steps in both]
        assert all((label is not None) == i % 2 for i, label in enumerate(labels)), "see `solution`"
        return [
            Case(
                subset=subset,
                rollouts=(replace(rollout, rollout_id=f"{subset}/{rollout.rollout_id}"),),
                first_error=label,
            )
            for rollout, label in zip(rollouts, labels, strict=True)
        ]


def _unjudged(steps: Sequence[str]) -> Judged:
    nothing = (0.0,) * len(steps)
    return Judged(steps=tuple(steps), targets=nothing, weights=nothing)
