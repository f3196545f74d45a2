import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.tasks.arithmetic import (
    ALPHABET,
    AnswerLine,
    Arithmetic,
    arithmetic_tokenizer,
    sft_samples,
    worked_solution,
)
from rlstep.types import Prompt, Verdict

TOKENIZER = arithmetic_tokenizer()
TASK = Arithmetic(train=64, evaluation=64)
PROBLEMS = TASK.load(TOKENIZER, max_prompt_tokens=32)

# 38 + 47 = 85, 85 * 7 = 595, 595 - 59 = 536
CHAIN = "38+47*7-59\n"


def problem(text: str, answer: str) -> Prompt:
    ids = np.array(TOKENIZER.encode(text), np.int32)
    return Prompt(prompt_id=text[:-1], token_ids=ids, text=text, answer=answer)


@pytest.mark.parametrize(
    ("steps", "first_error"),
    [
        (["38+47=85\n", "85*7=595\n", "595-59=536\n", "#536"], None),
        (["38+47*7=595\n", "595-59=536\n", "#536"], None),  # two operations in one step
        (["38+47*7-59=536\n", "#536"], None),  # all of them
        (["38+47=85\n", "85*7=595"], None),  # cut short, right so far
        ([], None),
        (["38+47=84\n", "84*7=588\n", "588-59=529\n", "#529"], 0),  # 38 + 47 is 85
        (["38+47=85\n", "85*7=585\n", "585-59=526\n", "#526"], 1),
        (["38+47*7=367\n", "367-59=308\n", "#308"], 0),  # 38 + 329: not from left to right
        (["38+47=85\n", "58*7=406\n"], 1),  # true, but from another value
        (["38+47=85\n", "85-59=26\n"], 1),  # true, but leaves out *7
        (["38+47=85\n", "85*6=510\n"], 1),  # true, but another factor
        (["38+47=85\n", "85=85\n"], 1),  # does nothing
        (["38+47=085\n"], 0),
        (["38+47=85\n", "85*7=595\n", "595-59=536\n", "#535"], 3),
        (["38+47=85\n", "85*7=595\n", "#595"], 2),  # answers too early
        (["#536"], 0),  # the right answer out of nothing
        (["38+47*7-59=536\n", "#536\n", "#536"], 2),  # goes on after the answer
        (["38+47*7-59=536\n", "\n"], 1),
        (["38+4"], 0),
    ],
)
def test_the_oracle_finds_the_first_wrong_step(steps: list[str], first_error: int | None):
    assert TASK.first_error(problem(CHAIN, "536"), steps) == first_error


@pytest.mark.parametrize("text", ["38+47*7-59", "+38\n", "38\n", "3/8\n", "3+8=11\n", ""])
def test_the_oracle_refuses_what_is_no_problem(text: str):
    with pytest.raises(ValueError, match=r"prompt\.text"):
        TASK.first_error(dataclasses.replace(problem(CHAIN, "536"), text=text), [])


@given(
    index=st.integers(0, len(PROBLEMS.train) - 1),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_careful_solutions_are_right_until_a_character_changes(index, seed, data):
    prompt = PROBLEMS.train[index]
    steps = worked_solution(prompt, np.random.default_rng(seed), sloppy=0.0)
    assert TASK.first_error(prompt, steps) is None
    assert AnswerLine().verify("".join(steps), prompt.answer).verdict is Verdict.CORRECT
    k = data.draw(st.integers(0, len(steps) - 1))
    at = data.draw(st.integers(0, len(steps[k].removesuffix("\n")) - 1))
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda c: c != steps[k][at]))
    broken = [*steps[:k], steps[k][:at] + other + steps[k][at + 1 :], *steps[k + 1 :]]
    assert TASK.first_error(prompt, broken) == k


def test_sloppiness_sets_how_many_operations_a_step_does():
    rng = np.random.default_rng(0)
    prompt = problem(CHAIN, "536")
    careful = ["38+47=85\n", "85*7=595\n", "595-59=536\n", "#536"]
    assert worked_solution(prompt, rng, 0.0) == careful
    # sloppy: the multiplication that is skipped over is forgotten, and 85 - 59 = 26
    forgetful = ["38+47*7=85\n", "85-59=26\n", "#26"]
    assert worked_solution(prompt, rng, 1.0) == forgetful
    assert TASK.first_error(prompt, forgetful) == 0
    # a multiplication that comes first in its step is done: 2 * 3 + 4 = 10, and 10 - 9 = 1
    first = problem("2*3+4-9\n", "1")
    assert worked_solution(first, rng, 1.0) == ["2*3+4=10\n", "10-9=1\n", "#1"]
    # what the wrong value would take under 0 is 0: 2 + 3 = 5, and 5 - 9 -> 0
    below = problem("2+3*4-9\n", "11")
    assert worked_solution(below, rng, 1.0) == ["2+3*4=5\n", "5-9=0\n", "#0"]
    # 5 operations: a first step of one leaves 4, one of two leaves 3, and so on
    firsts = [worked_solution(PROBLEMS.train[0], rng, 0.3)[0] for _ in range(2000)]
    double = np.mean([sum(first.count(o) for o in "+-*") == 2 for first in firsts])
    assert abs(double - 0.3) < 0.05  # five standard deviations of 2000 draws


def test_problems_repeat_with_the_seed_and_differ_without():
    again = dataclasses.replace(TASK).load(TOKENIZER, 32)
    other = dataclasses.replace(TASK, seed=1).load(TOKENIZER, 32)
    ids = [p.prompt_id for p in PROBLEMS.train]
    assert [p.prompt_id for p in again.train] == ids
    assert [p.prompt_id for p in other.train] != ids


def test_train_and_evaluation_are_disjoint_whatever_the_seed_and_size():
    # single-digit problems of one operation are so few that both sides meet most of them
    small = Arithmetic(operations=1, largest_operand=9, train=60, evaluation=8)
    train, evaluation = set(), set()
    for seed in range(5):
        problems = dataclasses.replace(small, seed=seed).load(TOKENIZER, 32)
        assert len({p.text for p in problems.train}) == 60
        train |= {p.prompt_id for p in problems.train}
        evaluation |= {p.prompt_id for p in problems.evaluation}
    assert not train & evaluation
    longer = dataclasses.replace(TASK, train=128, evaluation=16).load(TOKENIZER, 32)
    assert longer.train[:64] != [] and [p.text for p in longer.train[:64]] == [
        p.text for p in PROBLEMS.train
    ]


@given(
    operations=st.integers(2, 8),
    largest=st.integers(20, 99),
    factor=st.integers(1, 9),
    room=st.integers(2, 900),
)
def test_the_dial_bounds_operands_and_values(operations, largest, factor, room):
    task = Arithmetic(
        operations=operations,
        largest_operand=largest,
        largest_factor=factor,
        limit=largest + room,
        train=0,
        evaluation=1,
    )
    (prompt,) = task.load(TOKENIZER, 64).evaluation
    steps = worked_solution(prompt, np.random.default_rng(0), 0.0)
    assert len(steps) == operations + 1
    for step in steps[:-1]:
        left, result = step.removesuffix("\n").split("=")
        # Python agrees with every equation
        assert eval(left) == int(result) and 0 <= int(result) <= largest + room
        operator = next(o for o in "+-*" if o in left)
        operand = int(left.partition(operator)[2])
        assert 2 <= operand <= (factor if operator == "*" else largest)


def test_prompts_that_are_too_long_are_dropped_and_counted():
    lengths = [len(p.token_ids) for p in (*PROBLEMS.train, *PROBLEMS.evaluation)]
    short = TASK.load(TOKENIZER, max_prompt_tokens=14)
    assert len(short.train) + len(short.evaluation) == sum(n <= 14 for n in lengths) < 128
    assert short.dropped == {"too_long": sum(n > 14 for n in lengths)}
    assert PROBLEMS.dropped == {} and max(lengths) <= 32


def test_the_tokenizer_is_one_token_a_character_and_survives_a_folder(tmp_path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    for tokenizer in (TOKENIZER, AutoTokenizer.from_pretrained(tmp_path)):
        ids = tokenizer.encode(ALPHABET)
        assert ids == list(range(2, 2 + len(ALPHABET)))
        assert tokenizer.decode([*ids, 1], skip_special_tokens=True) == ALPHABET
        assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (0, 1, 18)
        with pytest.raises(Exception, match="UNK"):
            tokenizer.encode("1/2")


def test_sft_samples_train_every_completion_token():
    (sequence,) = sft_samples(
        [problem(CHAIN, "536")], np.random.default_rng(0), 0.0, TOKENIZER
    ).sequences
    solution = "38+47=85\n85*7=595\n595-59=536\n#536"
    assert TOKENIZER.decode(sequence.token_ids.tolist()) == CHAIN + solution + "<eos>"
    # 11 prompt tokens; steps of 9, 9, 11 and 4 + 1 (eos) tokens
    index = [-1] * 11 + [0] * 9 + [1] * 9 + [2] * 11 + [3] * 5
    assert sequence.step_index.tolist() == index
    assert sequence.loss_mask.tolist() == [k >= 0 for k in index]
    assert len(sequence.step_scores) == 4


def test_sft_samples_weigh_trained_tokens_one_and_repeat_with_the_generator():
    first = sft_samples(PROBLEMS.train, np.random.default_rng(3), 0.5, TOKENIZER)
    again = sft_samples(PROBLEMS.train, np.random.default_rng(3), 0.5, TOKENIZER)
    assert len({s.sequence_id for s in first.sequences}) == 64
    for a, b, target, weight in zip(
        first.sequences, again.sequences, first.targets, first.weights, strict=True
    ):
        assert np.array_equal(a.token_ids, b.token_ids)
        assert np.array_equal(target, a.loss_mask) and np.array_equal(weight, a.loss_mask)
        assert a.loss_mask.sum() <= 60


@pytest.mark.parametrize(
    ("text", "verdict", "extracted"),
    [
        ("38+47=85\n#85", Verdict.CORRECT, "85"),
        ("#85", Verdict.CORRECT, "85"),
        ("38+47=85\n#84", Verdict.WRONG, "84"),
        ("38+47=85\n#085", Verdict.WRONG, "085"),
        ("38+47=85\n", Verdict.UNPARSABLE, ""),
        ("38+47=85", Verdict.UNPARSABLE, ""),
        ("#85\n38+47=85", Verdict.UNPARSABLE, ""),
        ("#85\n", Verdict.UNPARSABLE, ""),
        ("##85", Verdict.UNPARSABLE, ""),
        ("", Verdict.UNPARSABLE, ""),
    ],
)
def test_the_answer_line_is_the_last(text: str, verdict: Verdict, extracted: str):
    score = AnswerLine().verify(text, "85")
    assert (score.verdict, score.extracted) == (verdict, extracted)
    assert score.value == (verdict is Verdict.CORRECT)


@pytest.mark.parametrize("text", ["38+47=85\n#85", "#85", "#8", "38+47=85\n#", "38+4", ""])
def test_an_answer_line_that_was_cut_off_is_unparsable(text):
    """'#85' may have been on its way to '#853'."""
    score = AnswerLine().verify(text, "85", finish_reason="length")
    assert (score.value, score.verdict, score.extracted) == (0.0, Verdict.UNPARSABLE, "")
    assert AnswerLine().verify("#85", "85", finish_reason="stop").verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operations": 0}, r"task\.operations is 0; the smallest valid value is 1"),
        ({"largest_operand": 1}, r"task\.largest_operand is 1; the smallest valid value is 2"),
        ({"largest_factor": 0}, r"task\.largest_factor is 0"),
        ({"limit": 99}, r"task\.limit is 99; the smallest valid value is 101"),
        ({"train": -1}, r"task\.train is -1"),
        ({"evaluation": -1}, r"task\.evaluation is -1"),
    ],
)
def test_bad_settings_name_the_field(change: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TASK, **change)


def test_asking_for_more_problems_than_there_are_says_so():
    with pytest.raises(ValueError, match=r"task\.train is 5000 .* repeat after"):
        Arithmetic(operations=1, largest_operand=9, train=5000).load(TOKENIZER, 32)
