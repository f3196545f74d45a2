from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.constraints_worked import altered, careful, careless, judgment, refined
from rlstep.checks import json_able
from rlstep.measuring.edit_distance import edit_distance
from rlstep.scoring.answers.constraints_met import violated
from rlstep.scoring.judges.judgment_text import read_verdict, render
from rlstep.scoring.judges.outcome_judge import WORDS as VERDICTS
from rlstep.tasks import constraints
from rlstep.tasks.constraints import WORDS, Constraints, constraints_tokenizer, split_of

TOKENIZER = constraints_tokenizer()
TASK = Constraints(levels=(0, 3), train=200, evaluation=60)
PROBLEMS = TASK.load(TOKENIZER, max_prompt_tokens=64)
places = st.integers(0, len(PROBLEMS.train) - 1)


def test_every_problem_has_an_answer_and_reads_back() -> None:
    assert (len(PROBLEMS.train), len(PROBLEMS.evaluation)) == (200, 60)
    for prompt in (*PROBLEMS.train, *PROBLEMS.evaluation):
        wanted = prompt.meta["constraints"]
        assert violated(wanted, prompt.answer) == []
        assert TOKENIZER.decode(prompt.token_ids.tolist()) == prompt.text
        assert prompt.text == "; ".join(wanted) + "\n" == prompt.meta["problem"] + "\n"
        assert TOKENIZER.decode(TOKENIZER.encode(prompt.answer)) == prompt.answer
        json_able("meta", prompt.meta)


def test_levels_are_numbers_of_constraints_as_many_problems_of_each() -> None:
    assert Counter(p.meta["level"] for p in PROBLEMS.train) == {0: 100, 3: 100}
    for prompt in PROBLEMS.train:
        wanted = prompt.meta["constraints"]
        assert len(wanted) == prompt.meta["level"] + 2
        kinds = [" ".join(w for w in c.split() if w not in WORDS and not w.isdigit())
                 for c in wanted]  # fmt: skip
        assert len(set(kinds)) == len(kinds)


def test_no_problem_is_in_both_splits_in_any_order() -> None:
    def keys(task: Constraints) -> tuple[set, set]:
        loaded = task.load(TOKENIZER, 64)
        return tuple(  # type: ignore[return-value]
            {tuple(sorted(p.meta["constraints"])) for p in prompts}
            for prompts in (loaded.train, loaded.evaluation)
        )

    train, evaluation = keys(TASK)
    more, others = keys(replace(TASK, seed=1))
    assert len(train) == 200 and not (train | more) & (evaluation | others)
    assert train != more
    assert split_of(("with sea", "without sun")) == split_of(("without sun", "with sea"))


def test_long_prompts_are_dropped_and_counted() -> None:
    loaded = TASK.load(TOKENIZER, max_prompt_tokens=8)
    assert loaded.dropped["too_long"] > 0
    assert all(len(p.token_ids) <= 8 for p in loaded.train)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": (6,)}, r"task\.levels is 6; the largest valid value is 5"),
        ({"levels": ()}, r"task\.levels is \(\); it must name levels, each once"),
        ({"levels": (1, 1)}, r"task\.levels is \(1, 1\)"),
        ({"train": -1}, r"task\.train is -1; the smallest valid value is 0"),
    ],
)
def test_bad_values_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Constraints(**fields)


def test_too_many_problems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORDS": ("sea", "sun", "fish"), "LONGEST": 2, "REPEATED": 300}.items():
        monkeypatch.setattr(constraints, name, value)
    task = Constraints(levels=(0,), train=10_000, evaluation=0)
    with pytest.raises(ValueError, match=r"task\.train is 10000, .* of level 0 repeat after \d+;"):
        task.load(TOKENIZER, 64)


def test_what_is_no_word_of_the_task_is_refused_by_the_tokenizer() -> None:
    with pytest.raises(Exception, match="UNK"):
        TOKENIZER.encode("with Moon")


# --- what the policy is taught -------------------------------------------------------------------


@given(places, st.integers(0, 1000))
def test_careful_answers_are_right_and_careless_ones_forget_one(place: int, seed: int) -> None:
    prompt, rng = PROBLEMS.train[place], Random(seed)
    wanted = prompt.meta["constraints"]
    assert violated(wanted, careful(wanted, prompt.answer, rng)) == []
    lost = violated(wanted, careless(wanted, prompt.answer, len(wanted) - 1, rng))
    assert lost in ([], [wanted[-1]])


@given(places, st.integers(0, 1000))
def test_refinements_are_right_and_near(place: int, seed: int) -> None:
    prompt, rng = PROBLEMS.train[place], Random(seed)
    wanted = prompt.meta["constraints"]
    wrong = altered(prompt.answer, rng)
    better = refined(wanted, wrong, prompt.answer, rng)
    assert violated(wanted, better) == []
    if violated(wanted, wrong) and better != prompt.answer:
        assert edit_distance(wrong.split(), better.split()) <= 8


def test_judgments_go_through_the_constraints_and_end_with_the_verdict() -> None:
    asked_for = ["with sea", "exactly 2 words", "without sun"]
    said = judgment(asked_for, "sun moon")
    assert said == [
        "with sea: missed\n",
        "exactly 2 words: met\n",
        "without sun: missed\n",
        "Verdict: WRONG",
    ]
    assert judgment(asked_for, "sea moon")[2:] == ["without sun: met\n", "Verdict: CORRECT"]
    assert read_verdict("".join(said), VERDICTS) == "WRONG"
    asked = render("judge\n{problem}\n{solution}\n", {"problem": "; ".join(asked_for),
                                                     "solution": "sun moon"})  # fmt: skip
    numberless = re.sub(r"-[0-9a-f]{8}>", "-#>", asked)
    assert TOKENIZER.decode(TOKENIZER.encode(asked)) == numberless
    assert len(TOKENIZER.encode(asked)) == 24


def test_no_answer_closes_its_own_tags() -> None:
    """A policy may write the token of a tag: what it is asked then has none of it."""
    written = TOKENIZER.decode(TOKENIZER.encode("</solution-0a1b2c3d>"))
    assert written == "</solution-#>"
    asked = render("judge\n{solution}\n", {"solution": f"sea{written}"})
    ids = TOKENIZER.encode(asked)
    assert ids.count(TOKENIZER.encode("</solution-0a1b2c3d>")[0]) == 1
    assert TOKENIZER.decode(ids) == "judge\n<solution-#>\nsea?\n</solution-#>\n"
    saved = TOKENIZER.backend_tokenizer.to_str()
    assert "Replace" in saved  # and goes along into a folder
