"""First errors in solutions of the logic task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlstep.benchmarks.oracle_steps import SPARE, OracleSteps
from rlstep.tasks.logic import ANSWER, NO, NOTHING, UNKNOWN, YES, Logic, read_problem
from rlstep.tasks.syllogism import Statement, about, conclusions
from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True)
class LogicSteps(OracleSteps):
    """ProcessBench's protocol (arXiv:2412.06559) on chains of syllogisms and their exact oracle.

    Lengths are numbers of premises. A solution goes along the chain from the question's subject.
    The error is at each deduction with the same probability, and states one of the things that do
    not follow: another form, the terms turned round, or nothing where something follows.
    """

    name: str = "logic_steps"
    """Of the benchmark; its numbers are told under it."""
    task: Logic
    """Whose held-out problems; `lengths` take the place of its premises."""

    def problems(self, tokenizer: Any) -> dict[str, Sequence[Prompt]]:
        found = {}
        for length in self.lengths or (self.task.premises,):
            task = replace(self.task, premises=length, train=0, evaluation=SPARE * self.number)
            found[f"{length}_premises"] = task.load(tokenizer, 1 << 20).evaluation
        return found

    def first_error(self, prompt: Prompt, steps: Sequence[str]) -> int | None:
        return self.task.first_error(prompt, steps)

    def solution(self, prompt: Prompt, rng: np.random.Generator, *, wrong: bool) -> list[str]:
        problem = read_problem(prompt.text)
        reached, *rest = problem.chain
        at = int(rng.integers(_deductions(reached, rest))) if wrong else None
        steps = []
        for i, premise in enumerate(rest):
            stated = _right(reached, premise, problem.question.subject)
            if i == at:
                stated = _pick(_wrong(reached, premise), rng)
            steps.append(f"{reached}, {premise}: {stated or NOTHING}\n")
            if stated is None:
                return [*steps, ANSWER + UNKNOWN]
            reached = stated
        said = {problem.question.meaning: YES, problem.question.contradictory.meaning: NO}
        return [*steps, ANSWER + said.get(reached.meaning, UNKNOWN)]


def _deductions(reached: Statement, rest: Sequence[Statement]) -> int:
    """How many a solution without an error has: it ends where nothing follows."""
    for number, premise in enumerate(rest, 1):
        found = conclusions(reached, premise)
        if not found:
            return number
        reached = found[0]
    return len(rest)


def _right(reached: Statement, premise: Statement, subject: str) -> Statement | None:
    """What follows, about the subject if it can be said so; None for nothing."""
    found = conclusions(reached, premise)
    return min(found, key=lambda each: each.subject != subject) if found else None


def _wrong(reached: Statement, premise: Statement) -> list[Statement | None]:
    """What does not follow; None is that nothing does, where something does."""
    right = conclusions(reached, premise)
    one, other = sorted(reached.terms ^ premise.terms)
    stated: list[Statement | None] = [each for each in about(one, other) if each not in right]
    return [*stated, None] if right else stated


def _pick(stated: Sequence[Statement | None], rng: np.random.Generator) -> Statement | None:
    return stated[int(rng.integers(len(stated)))]
