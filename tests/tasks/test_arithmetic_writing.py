"""Problems at an asked difficulty: what is asked, what is right, what is drawn."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer, chain, problem
from rlstep.tasks.arithmetic_writing import ArithmeticWriting, WrittenProblem, drawn_problem
from rlstep.types import Verdict

NUMBERS = Arithmetic(largest_operand=9, largest_factor=3, limit=20)
TASK = ArithmeticWriting(problems=NUMBERS, levels=6)
TOKENIZER = arithmetic_tokenizer()
CORRECT, WRONG, UNPARSABLE = Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSABLE


def test_every_opening_is_asked_for_at_every_level_on_one_side() -> None:
    """2 to 9 and an operand of 2 to 9: 64 sums, all within 20; 1 + 2 + ... + 8 = 36 differences,
    zero among them; 8 products by 2 and 5 by 3 within 20."""
    found = TASK.load(TOKENIZER, 64)
    openings = TASK.openings()
    assert len(openings) == 64 + 36 + 8 + 5
    assert sum("-" in opening for opening in openings) == 36
    assert len(found.train) + len(found.evaluation) == 6 * len(openings)
    sides = [{p.meta["opening"] for p in side} for side in (found.train, found.evaluation)]
    assert all(sides) and not sides[0] & sides[1]
    assert {p.meta["level"] for p in found.train} == set(range(6))
    first = found.train[0]
    assert first.text == f"#1={first.meta['opening']}\n" and first.prompt_id == first.answer
    assert len({p.prompt_id for p in (*found.train, *found.evaluation)}) == 6 * len(openings)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("4*3-5+6", CORRECT),  # 12, 7, 13
        ("4*3-5+6\n", CORRECT),
        ("4*3-5", WRONG),  # two operations
        ("4*3-5+6-2", WRONG),  # four
        ("4*2-5+6", WRONG),  # another opening
        ("4*3+9-5", WRONG),  # 21 is over the limit
        ("4*3-9-5", WRONG),  # -2
        ("4*3-5*4", WRONG),  # a factor over 3
        ("4*3-05+6", WRONG),  # no number is written so
        ("4*3-1+6", WRONG),  # an operand under 2
        ("4*3-5+", UNPARSABLE),
        ("4*3-5+6\n4*3=12", UNPARSABLE),
        ("", UNPARSABLE),
    ],
)
def test_what_is_a_problem_as_asked(text: str, verdict: Verdict) -> None:
    score = WrittenProblem(problems=NUMBERS).verify(text, "3=4*3")
    assert (score.verdict, score.value) == (verdict, float(verdict is CORRECT))
    assert score.extracted == ("" if verdict is UNPARSABLE else text.removesuffix("\n"))


def test_an_opening_is_not_the_start_of_a_longer_number() -> None:
    wide = WrittenProblem(problems=Arithmetic(largest_operand=99, largest_factor=9, limit=999))
    assert wide.verify("4+38-5", "2=4+3").verdict is WRONG
    assert wide.verify("4+38-5", "2=4+38").verdict is CORRECT


def test_what_was_cut_off_is_no_problem() -> None:
    verifier = WrittenProblem(problems=NUMBERS)
    assert verifier.verify("4*3-5+6", "3=4*3", "length").verdict is UNPARSABLE


def test_a_reference_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("answer is '14'; the reference reads like")):
        WrittenProblem().verify("4*3", "14")


def test_what_is_drawn_is_what_was_asked() -> None:
    rng = np.random.default_rng(0)
    for prompt in TASK.load(TOKENIZER, 64).train:
        text = drawn_problem(prompt, NUMBERS, rng)
        assert WrittenProblem(problems=NUMBERS).verify(text, prompt.answer).verdict is CORRECT
        solved = problem(f"{text}\n", TOKENIZER)
        assert solved.meta["operations"] == prompt.meta["level"] + 1
        assert solved.answer == str(chain(f"{text}\n")[1][-1])


def test_prompts_that_are_too_long_are_counted_and_levels_refused() -> None:
    short = TASK.load(TOKENIZER, 6)  # '#1=2+2' and the newline are 7
    assert not short.train and short.dropped == {"too_long": 6 * len(TASK.openings())}
    with pytest.raises(ValueError, match=re.escape("task.levels is 0")):
        replace(TASK, levels=0)
