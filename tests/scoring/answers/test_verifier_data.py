"""Agreement with published labels and references. Needs the data sets in ../shared/data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rlstep.scoring.answers.math_answer import MathAnswer
from rlstep.types import Failure, OutcomeScore, Verdict
from tests.scoring.processes.patient_pool import PatientPool

DATA = Path(__file__).parents[4] / "shared" / "data"


def rows(name: str) -> list[dict]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def pool():
    with PatientPool(MathAnswer(), workers=2) as pool:
        yield pool


def scores(outcomes) -> list[OutcomeScore]:
    assert [o for o in outcomes if isinstance(o, Failure)] == []
    return outcomes


async def test_gsm8k_solutions_of_four_models_agree_with_their_labels(pool):
    # Cobbe et al. 2021 (arXiv 2110.14168): solutions end in a line 'A: 18', the 'phrase' rule;
    # eleven have no such line (cut off, or a bare number), and are labelled incorrect.
    models = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
    items, labels = [], []
    for row in rows("gsm8k/example_model_solutions.jsonl"):
        (reference,) = re.findall(r"^A: (.*)$", row["ground_truth"], re.MULTILINE)
        for model in models:
            items.append((row[model]["solution"], reference))
            labels.append(row[model]["is_correct"])
    assert (len(items), sum(labels)) == (4 * 1319, 2001)
    found = scores(await pool.verify(items))
    disagreements = [
        (text[-60:], reference, score, label)
        for (text, reference), score, label in zip(items, found, labels, strict=True)
        if (score.verdict is Verdict.CORRECT) != label
    ]
    assert disagreements == []


async def test_gsm8k_references_in_their_own_format(pool):
    items = [(row["answer"], row["answer"].split("####")[1]) for row in rows("gsm8k/test.jsonl")]
    assert len(items) == 1319
    assert all(score.verdict is Verdict.CORRECT for score in scores(await pool.verify(items)))


async def test_math500_solutions_hold_their_references(pool):
    problems = rows("math500/test.jsonl")
    items = [(row["solution"], row["answer"]) for row in problems]
    assert len(items) == 500
    assert all(score.verdict is Verdict.CORRECT for score in scores(await pool.verify(items)))


def boxed(answer: str) -> str:
    return rf"\boxed{{{answer}}}"


@pytest.mark.parametrize("prefix", ["", r"\displaystyle "], ids=["as text", "by value"])
async def test_math500_references_equal_themselves(pool, prefix):
    # the prefix means nothing, and keeps the comparison as text from finding the two equal
    answers = [row["answer"] for row in rows("math500/test.jsonl")]
    found = scores(await pool.verify([(boxed(prefix + answer), answer) for answer in answers]))
    assert [s.extracted for s in found if s.verdict is not Verdict.CORRECT] == []


# (reference, the next problem's): equal by value, each of them
EQUAL = [("5", "x=5"), ("7", "7"), ("3", "3")]


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
async def test_math500_accepts_the_next_reference_only_where_it_is_equal(pool, every):
    answers = [row["answer"] for row in rows("math500/test.jsonl")]
    following = list(zip(answers, answers[1:] + answers[:1], strict=True))
    pairs = [pair for i, pair in enumerate(following) if not i % every or pair in EQUAL]
    found = scores(await pool.verify([(boxed(answer), reference) for reference, answer in pairs]))
    accepted = [p for p, s in zip(pairs, found, strict=True) if s.verdict is Verdict.CORRECT]
    assert accepted == EQUAL
