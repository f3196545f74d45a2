"""Chains of any length whose steps are all as hard as each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.interfaces import StepOracle
from rlstep.tasks.modular_chain import (
    LONGEST,
    MODULUS,
    OPERATIONS,
    ModularChain,
    apply,
    chain,
    modular_chain_tokenizer,
    problem,
    recalled,
    worked_solution,
)

TOKENIZER = modular_chain_tokenizer()
TEXT = "ba=7be+5bi*2bo-9\n"
RIGHT = ["be+5=12\n", "bi*2=7\n", "bo-9=15\n", "#15"]


def test_values_worked_by_hand():
    # 7 + 5 = 12, 12 * 2 = 24 = 17 + 7, 7 - 9 = -2 = 15 - 17
    named, values = chain(TEXT)
    assert named == [("be", "+5"), ("bi", "*2"), ("bo", "-9")]
    assert values == [7, 12, 7, 15]
    prompt = problem(TEXT, TOKENIZER)
    assert (prompt.answer, prompt.prompt_id) == ("15", TEXT.strip())
    assert prompt.meta == {"operations": 3, "level": 2}


def test_every_operation_maps_the_residues_one_to_one():
    for operation in OPERATIONS:
        assert {apply(value, operation) for value in range(MODULUS)} == set(range(MODULUS))


def test_a_step_is_four_tokens_and_a_problem_two_for_an_operation():
    prompt = problem(TEXT, TOKENIZER)
    assert len(prompt.token_ids) == 2 * 3 + 3
    assert [len(TOKENIZER.encode(step)) for step in RIGHT] == [4, 4, 4, 1]
    assert TOKENIZER.decode(TOKENIZER.encode("".join(RIGHT))) == "".join(RIGHT)
    with pytest.raises(Exception, match="UNK"):
        TOKENIZER.encode("be+5 = 12")


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        (RIGHT, None),
        (RIGHT[:2], None),
        (["be+5=13\n", *RIGHT[1:]], 0),
        ([RIGHT[0], "bo-9=3\n", *RIGHT[2:]], 1),  # the name says another operation
        ([*RIGHT[:2], "bo+9=16\n", "#16"], 2),
        ([*RIGHT[:3], "#14"], 3),
        ([RIGHT[0], "#12"], 1),  # not yet
        ([*RIGHT, "#15"], 4),
        (["", *RIGHT], 0),
    ],
)
def test_the_first_wrong_step(steps: list[str], error: int | None):
    assert ModularChain().first_error(problem(TEXT, TOKENIZER), steps) == error


def test_a_step_follows_from_the_line_before_it():
    # 13 * 2 = 26 = 9 + 17, 9 - 9 = 0: right after the one wrong step.
    steps = ["be+5=13\n", "bi*2=9\n", "bo-9=0\n", "#0"]
    prompt, task = problem(TEXT, TOKENIZER), ModularChain()
    assert task.follow(prompt, steps) == [False, True, True, True]
    assert task.follow(prompt, [*steps[:2], "bo-9=1\n", "#0", "#0"]) == [False, True] + [False] * 3
    assert task.follow(prompt, RIGHT) == [True] * 4
    assert task.follow(prompt, ["", "bi*2=14\n", "#14"]) == [False, True, False]


def test_a_problem_of_another_task_is_refused():
    with pytest.raises(ValueError, match="reads like 'ba=7be"):
        chain("38+47*7\n")


@pytest.mark.parametrize("operations", [2, 8, LONGEST])
def test_problems(operations: int):
    task = ModularChain(operations=operations, train=300, evaluation=60)
    assert isinstance(task, StepOracle)
    prompts = task.load(TOKENIZER, 160)
    every = [*prompts.train, *prompts.evaluation]
    assert len({p.prompt_id for p in every}) == len(every) == 360
    assert {p.meta["operations"] for p in every} == {operations}
    other = ModularChain(operations=operations, train=300, evaluation=60, seed=1).load(
        TOKENIZER, 160
    )
    assert not {p.prompt_id for p in other.train} & {p.prompt_id for p in prompts.evaluation}


def test_sizes_out_of_range():
    with pytest.raises(ValueError, match=r"task\.operations"):
        ModularChain(operations=LONGEST + 1)
    with pytest.raises(ValueError, match=r"task\.operations"):
        ModularChain(operations=1)
    assert ModularChain(operations=64, train=3, evaluation=1).load(TOKENIZER, 100).dropped == {
        "too_long": 4
    }


@given(st.integers(0, 2**32 - 1))
def test_a_careful_solution_is_right_and_a_careless_one_goes_on_from_its_errors(seed: int):
    task = ModularChain(operations=16, train=1, evaluation=0, seed=seed)
    [prompt] = task.load(TOKENIZER, 64).train
    rng = np.random.default_rng(seed)
    assert task.first_error(prompt, worked_solution(prompt, rng, careless=0.0)) is None
    steps = worked_solution(prompt, rng, careless=2.0)
    named, _ = chain(prompt.text)
    reached = chain(prompt.text)[1][0]
    for (name, operation), step in zip(named, steps, strict=False):
        said = int(step.removeprefix(f"{name}{operation}=").removesuffix("\n"))
        assert said in (apply(reached, operation), recalled(reached, operation)[0])
        reached = said
    assert steps[-1] == f"#{reached}"


def test_no_fact_is_wrong_more_often_than_right_and_every_place_is_as_hard():
    facts = [recalled(value, operation) for value in range(MODULUS) for operation in OPERATIONS]
    rates = [rate for _, rate in facts]
    assert set(rates) == {0.01, 0.2, 0.42} and 0.10 < np.mean(rates) < 0.13
    wrong = [
        recalled(value, operation)[0] != apply(value, operation)
        for value in range(MODULUS)
        for operation in OPERATIONS
    ]
    assert all(wrong)
    task = ModularChain(operations=32, train=2_000, evaluation=0)
    rng = np.random.default_rng(0)
    prompts = task.load(TOKENIZER, 80).train
    errors = [task.first_error(p, worked_solution(p, rng)) for p in prompts]
    at_risk = [sum(e is None or e >= i for e in errors) for i in range(8)]
    hazards = [sum(e == i for e in errors) / n for i, n in enumerate(at_risk)]
    # Of some 1,000 at risk one standard error is 1 point.
    assert max(abs(hazard - np.mean(rates)) for hazard in hazards) < 0.04
