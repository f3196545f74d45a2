"""First errors in solutions of the arithmetic task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from rlstep.benchmarks.oracle_steps import SPARE, OracleSteps
from rlstep.checks import between
from rlstep.tasks.arithmetic import ANSWER, Arithmetic, chain, worked_solution
from rlstep.types import Prompt

TRIES = 16
"""Solutions of one problem that are drawn in search of one with, or without, an error."""


@dataclass(frozen=True, kw_only=True)
class ArithmeticSteps(OracleSteps):
    """ProcessBench's protocol (arXiv:2412.06559) on chains of operations and their exact oracle.

    Lengths are numbers of operations; a step does one operation or two. Errors are of one kind:

    - 'slip': at each step with the same probability, so that its position tells little; the
      result has the last operation forgotten or its sign turned round, or is off by 1, 2 or 10,
      and other steps of two operations are right.
    - 'habit': those of `worked_solution`, of which the shipped policy learned: wherever the second
      of two operations is a multiplication, it is forgotten.

    What only knows the habit by its looks is told by the first kind.
    """

    name: str = "arithmetic_steps"
    """Of the benchmark; its numbers are told under it."""
    task: Arithmetic
    """Whose held-out problems; `lengths` take the place of its operations."""
    errors: Literal["slip", "habit"] = "slip"
    """Of which kind."""
    pairs: float = 0.3
    """Probability that a step does two operations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        between("benchmarks.pairs", self.pairs, 0.0, 1.0)

    def problems(self, tokenizer: Any) -> dict[str, Sequence[Prompt]]:
        found = {}
        for length in self.lengths or (self.task.operations,):
            task = replace(self.task, operations=length, train=0, evaluation=SPARE * self.number)
            found[f"{length}_operations"] = task.load(tokenizer, 1 << 20).evaluation
        return found

    def first_error(self, prompt: Prompt, steps: Sequence[str]) -> int | None:
        return self.task.first_error(prompt, steps)

    def solution(
        self, prompt: Prompt, rng: np.random.Generator, *, wrong: bool
    ) -> list[str] | None:
        if self.errors == "habit":
            return self._of_habit(prompt, rng, wrong)
        terms, values = chain(prompt.text)
        groups: list[list[str]] = []
        while rest := terms[sum(map(len, groups)) :]:
            groups.append(rest[: 2 if rng.random() < self.pairs else 1])
        at = int(rng.integers(len(groups))) if wrong else None
        value, steps = values[0], []
        for i, group in enumerate(groups):
            result = _result(value, group)
            if i == at:
                result = _pick(_wrong_results(value, group), rng)
            steps.append(f"{value}{''.join(group)}={result}\n")
            value = result
        return [*steps, f"{ANSWER}{value}"]

    def _of_habit(self, prompt: Prompt, rng: np.random.Generator, wrong: bool) -> list[str] | None:
        for _ in range(TRIES):
            steps = worked_solution(prompt, rng, self.pairs)
            if (self.first_error(prompt, steps) is not None) == wrong:
                return steps
        return None


def _result(value: int, terms: Sequence[str]) -> int:
    """After the operations; what falls under 0 is taken as 0, which only a wrong value does."""
    for term in terms:
        operand = int(term[1:])
        if term[0] == "*":
            value *= operand
        else:
            value = max(0, value + operand if term[0] == "+" else value - operand)
    return value


def _wrong_results(value: int, terms: Sequence[str]) -> list[int]:
    right = _result(value, terms)
    *before, last = terms
    turned = {"+": "-", "-": "+", "*": "+"}[last[0]] + last[1:]
    slips = [right + off for off in (-10, -2, -1, 1, 2, 10)]
    found = {_result(value, before), _result(value, [*before, turned]), *slips}
    return sorted(number for number in found if number >= 0 and number != right)


def _pick(numbers: Sequence[int], rng: np.random.Generator) -> int:
    return numbers[int(rng.integers(len(numbers)))]
