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


@dataclass(frozen=True, kw_only=True)
class OracleSteps(FirstErrors):
    """Solutions of a task's held-out problems, a planted error in every second one.

    In the manner of ProcessBench (arXiv:2412.06559), made and not downloaded; the label is what the
    task's oracle says. The error is at each step of the solution with the same probability, and
    what follows goes on from it, so a step's position tells little. The same seed makes the same
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
        """`number` held-out problems of each length, by the name of the subset."""

    @abstractmethod
    def solution(self, prompt: Prompt, rng: np.random.Generator, *, wrong: bool) -> list[str]:
        """The texts of a solution's steps, with or without a planted error."""

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
        if len(prompts) < self.number:
            raise ValueError(
                f"benchmarks.number is {self.number}, and {subset!r} has {len(prompts)} held-out"
                " problems; that is the nearest valid value"
            )
        rng = np.random.default_rng([self.seed, zlib.crc32(subset.encode())])
        solved = [
            self.solution(prompt, rng, wrong=i % 2 == 1)
            for i, prompt in enumerate(prompts[: self.number])
        ]
        both = list(zip(prompts, solved, strict=False))
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
