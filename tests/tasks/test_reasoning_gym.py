"""ReasoningGym and its verifier against the real package; skipped, saying so, without it."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import pytest

from rlstep.scoring.answers.reasoning_gym_answer import (
    _GUARD,
    EVALUATES,
    Entry,
    EvaluatesText,
    ReasoningGymAnswer,
    make_dataset,
)
from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.tasks.reasoning_gym import HASH_SEEDED, ReasoningGym, Source, _shares
from rlstep.types import Failure, Verdict
from tests.real_tokenizers import byte_level_tokenizer

pytest.importorskip("reasoning_gym", reason="the extra rlstep[reasoning-gym] is absent")

TWELVE = (
    "basic_arithmetic chain_sum gcd lcm leg_counting letter_counting number_format"
    " power_function prime_factorization products simple_equations spell_backward"
).split()


MAKE = """
import json, sys
from rlstep.tasks.reasoning_gym import ReasoningGym, Source
from tests.real_tokenizers import byte_level_tokenizer
task = ReasoningGym(sources=(Source(dataset=sys.argv[1]),), train=3, evaluation=3)
made = task.load(byte_level_tokenizer(), 10_000)
print(json.dumps([p.answer for p in (*made.train, *made.evaluation)]))
"""


def load(*sources, longest=10_000, **fields):
    return ReasoningGym(sources=sources, **fields).load(byte_level_tokenizer(), longest)


def reply(prompt):
    return f"So: <answer>{json.loads(prompt.answer)['item']['answer']}</answer>"


@pytest.mark.parametrize("name", TWELVE)
def test_training_and_evaluation_share_no_question(name):
    made = load(Source(dataset=name), train=60, evaluation=30)
    train = {p.meta["problem"] for p in made.train}
    evaluation = {p.meta["problem"] for p in made.evaluation}
    assert train and evaluation and not train & evaluation
    assert len(made.train) + len(made.evaluation) + sum(made.dropped.values()) == 90


@pytest.mark.parametrize("name", TWELVE)
def test_neighbouring_seeds_would_share_questions(name):
    """Item i of seed s is item i - 1 of seed s + 1."""
    this = make_dataset(name, None, {}, 3, 10)
    following = make_dataset(name, None, {}, 4, 10)
    same = [this[i + 1]["question"] == following[i]["question"] for i in range(9)]
    assert all(same)


@pytest.mark.parametrize("name", TWELVE)
def test_own_answers_are_correct_and_others_are_not(name):
    verifier = ReasoningGymAnswer()
    for prompt in load(Source(dataset=name), train=5, evaluation=0).train:
        assert verifier.verify(reply(prompt), prompt.answer).verdict is Verdict.CORRECT
        wrong = verifier.verify("<answer>-987654321</answer>", prompt.answer)
        assert (wrong.value, wrong.verdict) == (0.0, Verdict.WRONG)
        assert verifier.verify("no tags", prompt.answer).verdict is Verdict.UNPARSABLE
        assert verifier.verify("<answer> </answer>", prompt.answer).verdict is Verdict.UNPARSABLE


def test_what_a_grader_raises_is_no_score():
    """prime_factorization's raises on a word."""
    (prompt,) = load(Source(dataset="prime_factorization"), train=1, evaluation=0).train
    with pytest.raises(ValueError, match="invalid literal"):
        ReasoningGymAnswer().verify("<answer>neither</answer>", prompt.answer)


def test_a_part_of_a_score_is_not_correct():
    """The library's usual grader gives len(right) / len(said) where the right answer is inside."""
    dataset = make_dataset("gcd", None, {}, 0, 1)
    entry = Entry(dataset="gcd", level=None, config={}, item=dataset[0])
    said = f"it is {dataset[0]['answer']}"
    score = ReasoningGymAnswer().grade(said, entry.answer())
    assert score == pytest.approx(len(dataset[0]["answer"]) / len(said))
    assert not ReasoningGymAnswer().verify(f"<answer>{said}</answer>", entry.answer()).value


def test_the_graders_own_number_stands_beside_the_verdict():
    dataset = make_dataset("gcd", None, {}, 0, 1)
    entry = Entry(dataset="gcd", level=None, config={}, item=dataset[0])
    right = dataset[0]["answer"]
    graded = [
        ReasoningGymAnswer().verify(text, entry.answer())
        for text in (f"<answer>{right}</answer>", f"<answer>it is {right}</answer>", right)
    ]
    assert [o.grade for o in graded] == [1.0, pytest.approx(len(right) / (6 + len(right))), 0.0]
    assert [o.value for o in graded] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["isomorphic_strings", "ransom_note"])
def test_what_a_seed_does_not_fix_needs_one_hash_seed(name, monkeypatch):
    """The items are those of a process with this hash seed, so this test makes none itself."""
    for value in ("random", "1", None):
        if value is None:
            monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        else:
            monkeypatch.setenv("PYTHONHASHSEED", value)
        with pytest.raises(ValueError, match="start with PYTHONHASHSEED=0 in the environment"):
            load(Source(dataset=name), train=1, evaluation=1)
    made = [
        subprocess.run(
            [sys.executable, "-c", MAKE, name],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert made[0] == made[1] and json.loads(made[0])


def test_the_seed_and_the_numbers_decide_the_problems():
    sources = Source(dataset="gcd"), Source(dataset="lcm")
    first, again = (load(*sources, train=20, evaluation=10) for _ in range(2))
    assert [p.answer for p in first.train] == [p.answer for p in again.train]
    longer = load(*sources, train=40, evaluation=10)
    assert [p.prompt_id for p in longer.evaluation] == [p.prompt_id for p in first.evaluation]


def test_a_mixture_has_its_weights():
    made = load(
        Source(dataset="chain_sum", weight=3), Source(dataset="products"), train=80, evaluation=20
    )
    names = [p.meta["dataset"] for p in (*made.train, *made.evaluation)]
    dropped = sum(made.dropped.values())
    assert 75 - dropped <= names.count("chain_sum") <= 75
    assert 25 - dropped <= names.count("products") <= 25


@pytest.mark.parametrize(
    ("number", "weights", "shares"),
    [(10, [1, 1], [5, 5]), (10, [3, 1], [8, 2]), (1, [1, 9], [0, 1]), (0, [1], [0]),
     (7, [1, 1, 1], [2, 3, 2])],
)  # fmt: skip
def test_shares_sum_to_the_number(number, weights, shares):
    """(7, thirds): the ends are 2.33, 4.67 and 7, rounded 2, 5 and 7."""
    assert _shares(number, weights) == shares


def test_levels_and_fields_reach_the_data_set():
    easy, hard = (
        load(Source(dataset="chain_sum", level=n), train=30, evaluation=0) for n in (0, 3)
    )
    length = [max(len(p.meta["problem"]) for p in made.train) for made in (easy, hard)]
    assert length[0] < length[1]
    config = {"min_terms": 6, "max_terms": 6, "min_digits": 1, "max_digits": 1}
    for level in (None, 0):
        source = Source(dataset="chain_sum", level=level, config=config)
        (prompt,) = load(source, train=1, evaluation=0).train
        item = json.loads(prompt.answer)["item"]
        assert item["metadata"]["num_terms"] == 6


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source(dataset="chain_sums"), "sources.0.dataset is 'chain_sums'; nearest: 'chain_sum'"),
        (Source(dataset="composite"), "mix with task.sources"),
        (Source(dataset="gcd", config={"min_number": 1}), "nearest: 'min_numbers'"),
        (Source(dataset="gcd", config={"seed": 1}), "config has 'seed'"),
        (Source(dataset="gcd", config={"min_numbers": 0}), "sources.0 \\('gcd'\\) is refused"),
        (Source(dataset="graph_color"), "JSON has only strings as keys"),
        (Source(dataset="list_functions"), "makes other items, whatever the seed"),
        *[(Source(dataset=name), "PYTHONHASHSEED=0") for name in sorted(HASH_SEEDED - EVALUATES)],
        (Source(dataset="rearc"), "knows its own answer no more"),
        (Source(dataset="gcd", level=99), "level is 99; the largest valid value is"),
        *[(Source(dataset=name), "evaluates texts as Python") for name in sorted(EVALUATES)],
    ],
)
def test_refused_by_name(source, words, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(ValueError, match=words):
        load(source, train=1, evaluation=1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sources": ()}, "task.sources is empty"),
        ({"sources": (Source(dataset="gcd"), Source(dataset="gcd"))}, "sources.1 repeats"),
        ({"train": -1}, "task.train"),
        ({"evaluation": -1}, "task.evaluation"),
        ({"seed": -1}, "task.seed"),
    ],
)
def test_bad_fields(fields, words):
    with pytest.raises(ValueError, match=words):
        ReasoningGym(**{"sources": (Source(dataset="gcd"),), **fields})


@pytest.mark.parametrize(
    "fields", [{"weight": 0.0}, {"level": -1}, {"config": {"x": object()}}, {"weight": -1.0}]
)
def test_bad_sources(fields):
    with pytest.raises(ValueError, match="source"):
        Source(dataset="gcd", **fields)


def harmless(entry, grade, monkeypatch):
    """What a grader that is replaced by `grade` makes of '1 + 1'."""
    verifier = ReasoningGymAnswer()
    read = Entry.read(entry)
    monkeypatch.setattr(type(verifier._dataset(read)), "score_answer", grade)
    return verifier.grade("1 + 1", entry)


@pytest.mark.parametrize("swallowed", [False, True])
def test_code_from_a_text_does_not_run_and_is_found_out(swallowed, monkeypatch):
    ran = []

    def grade(self, answer, entry):
        try:
            ran.append(eval(answer))
        except Exception:
            if not swallowed:
                raise
        return 0.0

    (prompt,) = load(Source(dataset="gcd"), train=1, evaluation=0).train
    with pytest.raises(EvaluatesText):
        harmless(prompt.answer, grade, monkeypatch)
    assert not ran
    assert eval("1 + 1") == 2  # outside of a grader nothing is refused


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1, float("inf")])
def test_a_number_outside_of_its_range_is_no_score(score, monkeypatch):
    (prompt,) = load(Source(dataset="gcd"), train=1, evaluation=0).train
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        harmless(prompt.answer, lambda *_: score, monkeypatch)


async def test_in_the_pool_a_grader_that_raises_is_a_failure():
    (prompt,) = load(Source(dataset="gcd"), train=1, evaluation=0).train
    entry = Entry.read(prompt.answer)
    broken = dataclasses.replace(entry, item={"question": "?"}).answer()
    items = [
        (reply(prompt), prompt.answer, {}),
        ("<answer>1</answer>", broken, {}),
        ("<answer>1</answer>", "no entry", {}),
    ]
    with VerifierPool(ReasoningGymAnswer(), workers=1, deadline_s=60.0) as pool:
        right, *failed = await pool.verify(items)
    assert not isinstance(right, Failure) and right.verdict is Verdict.CORRECT
    assert [f.reason for f in failed if isinstance(f, Failure)] == ["crashed", "crashed"]


async def test_in_the_pool_a_data_set_that_evaluates_is_a_failure_not_a_zero():
    """What `ReasoningGym` refuses at load, sent past it: harmless arithmetic."""
    dataset = make_dataset("polynomial_multiplication", None, {}, 0, 1)
    item = {"question": "?", "answer": dataset[0]["answer"], "metadata": {}}
    entry = Entry(dataset="polynomial_multiplication", level=None, config={}, item=item)
    with VerifierPool(ReasoningGymAnswer(), workers=1, deadline_s=60.0) as pool:
        (outcome,) = await pool.verify([("<answer>1 + 1</answer>", entry.answer(), {})])
    assert isinstance(outcome, Failure) and "EvaluatesText" in outcome.detail


@pytest.mark.slow
def test_the_graders_that_evaluate_are_those_that_are_refused():
    """Each grades sums and its own answer. What counts is whether it makes code from a text, which
    does not run; one that asks first what the answer looks like may not come to it with a sum."""
    from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]

    evaluating = set()
    for name in sorted(DATASETS.keys() - {"composite"}):
        dataset = make_dataset(name, None, {}, 0, 3)
        for item in (dataset[i] for i in range(3)):
            for said in ("1 + 1", "[1, 2]", str(item["answer"])):
                try:
                    with _GUARD, contextlib.suppress(Exception):
                        dataset.score_answer(said, item)
                except EvaluatesText:
                    evaluating.add(name)
    assert evaluating == EVALUATES
