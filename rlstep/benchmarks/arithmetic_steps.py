"""First errors in solutions of the arithmetic task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlstep.benchmarks.oracle_steps import OracleSteps
from rlstep.checks import between
from rlstep.tasks.arithmetic import ANSWER, Arithmetic, chain
from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True)
class ArithmeticSteps(OracleSteps):
    """ProcessBench's protocol (arXiv:2412.06559) on chains of operations and their exact oracle.

    Lengths are numbers of operations. A step does one operation or two, right or wrong alike. The
    wrong result of the step with the error is one of: the last operation forgotten, its sign
    turned round, or off by 1, 2 or 10.
    """

    name: str = "arithmetic_steps"
    """Of the benchmark; its numbers are told under it."""
    task: Arithmetic
    """Whose held-out problems; `lengths` take the place of its operations."""
    pairs: float = 0.3
    """Probability that a step does two operations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        between("benchmarks.pairs", self.pairs, 0.0, 1.0)

    def problems(self, tokenizer: Any) -> dict[str, Sequence[Prompt]]:
        found = {}
        for length in self.lengths or (self.task.operations,):
            task = replace(self.task, operations=length, train=0, evaluation=self.number)
            found[f"{length}_operations"] = task.load(tokenizer, 1 << 20).evaluation
        return found

    def first_error(self, prompt: Prompt, steps: Sequence[str]) -> int | None:
        return self.task.first_error(prompt, steps)

    def solution(self, prompt: Prompt, rng: np.random.Generator, *, wrong: bool) -> list[str]:
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
