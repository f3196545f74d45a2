"""Made solutions: what the oracle says of them, where their errors are, and that a seed fixes
them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlstep.benchmarks.arithmetic_steps import ArithmeticSteps, _wrong_results
from rlstep.benchmarks.logic_steps import LogicSteps
from rlstep.benchmarks.oracle_steps import OracleSteps
from rlstep.tasks.arithmetic import AnswerLine, Arithmetic, arithmetic_tokenizer
from rlstep.tasks.logic import Logic, logic_tokenizer
from rlstep.types import Score, StepScores, Verdict

SMALL = Arithmetic(operations=3, largest_operand=9, largest_factor=3, limit=20)
SUMS = ArithmeticSteps(task=SMALL, lengths=(3, 6), number=40, pairs=0.0)
HABIT = replace(SUMS, errors="habit", pairs=0.5)
SYLLOGISMS = LogicSteps(task=Logic(premises=3), lengths=(3, 4), number=40)
MADE = [
    (SUMS, arithmetic_tokenizer()),
    (HABIT, arithmetic_tokenizer()),
    (SYLLOGISMS, logic_tokenizer()),
]


@pytest.mark.parametrize(("benchmark", "tokenizer"), MADE, ids=["arithmetic", "habit", "logic"])
def test_every_second_solution_has_an_error_and_a_seed_fixes_them(
    benchmark: OracleSteps, tokenizer: Any
) -> None:
    cases = benchmark.cases(tokenizer)
    assert len(cases) == 2 * benchmark.number
    assert [case.first_error is not None for case in cases] == [False, True] * benchmark.number
    texts = [case.rollouts[0].completion.text for case in cases]
    assert texts == [case.rollouts[0].completion.text for case in benchmark.cases(tokenizer)]
    other = replace(benchmark, seed=1).cases(tokenizer)
    assert texts != [case.rollouts[0].completion.text for case in other]


def test_an_oracle_has_an_f1_of_1_and_whatever_likes_all_of_0() -> None:
    for benchmark, tokenizer in MADE:
        cases = benchmark.cases(tokenizer)

        def told(case: Any, wrong: float) -> list[Score]:
            values = np.ones(len(case.rollouts[0].steps), np.float32)
            if case.first_error is not None:
                values[case.first_error :] = wrong
            return [StepScores(values=values, version=0)]

        assert benchmark.figures(cases, [told(case, 0.1) for case in cases])["f1"] == 1.0
        assert benchmark.figures(cases, [told(case, 0.9) for case in cases])["f1"] == 0.0


def test_errors_are_at_every_operation_alike() -> None:
    cases = ArithmeticSteps(task=SMALL, lengths=(4,), number=400, pairs=0.0).cases(
        arithmetic_tokenizer()
    )
    at = Counter(case.first_error for case in cases if case.first_error is not None)
    # 200 errors over 4 steps: 50 each, and 3 standard deviations are 18.
    assert at.keys() == {0, 1, 2, 3} and all(abs(number - 50) <= 18 for number in at.values())
    # Some answers are right after all, as in ProcessBench.
    verdicts = Counter(
        AnswerLine().verify(c.rollouts[0].completion.text, c.rollouts[0].prompt.answer).verdict
        for c in cases
        if c.first_error is not None
    )
    assert verdicts[Verdict.WRONG] > 150 and verdicts.keys() <= {Verdict.WRONG, Verdict.CORRECT}


def test_wrong_results_by_hand() -> None:
    # 5+4*2 is 18: 9 with the last one forgotten, 9+2 = 11 with it turned round, and the slips.
    assert _wrong_results(5, ["+4", "*2"]) == [8, 9, 11, 16, 17, 19, 20, 28]
    # 2-1 is 1; 3 turned round, 2 forgotten or a slip; under 0 there is none.
    assert _wrong_results(2, ["-1"]) == [0, 2, 3, 11]


def test_a_step_is_one_operation_or_two() -> None:
    cases = replace(SUMS, pairs=1.0, lengths=()).cases(arithmetic_tokenizer())
    assert {case.subset for case in cases} == {"3_operations"}
    assert {len(case.rollouts[0].steps) for case in cases} == {3}  # two operations, one, the answer


def test_the_habit_forgets_multiplications_and_nothing_else() -> None:
    for case in HABIT.cases(arithmetic_tokenizer()):
        [rollout] = case.rollouts
        steps = [rollout.step_text(k) for k in range(len(rollout.steps))]
        pairs = [k for k, step in enumerate(steps) if re.match(r"\d+[-+*]\d+\*", step)]
        # (A multiplication of 0 is right all the same.)
        assert case.first_error in (None, *pairs)


def test_more_solutions_than_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="number is 1; the smallest valid value is 2"):
        ArithmeticSteps(task=SMALL, number=1)
    with pytest.raises(ValueError, match="problems of 1 operations repeat"):
        ArithmeticSteps(task=SMALL, lengths=(1,), number=4000).cases(arithmetic_tokenizer())
