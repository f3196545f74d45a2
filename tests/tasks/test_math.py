"""MATH rows, made up and real."""

import json
from pathlib import Path

import pytest

from rlstep.tasks.math import Math
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

DATA = Path(__file__).parents[3] / "shared" / "data" / "math500"


def load(path, **row):
    path.write_text(json.dumps({"problem": "Halve $x$.", **row}) + "\n")
    return Math(path=str(path)).load(byte_level_tokenizer(), 64)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"answer": "\\frac{x}{2}", "solution": "so $\\boxed{7}$"}, "\\frac{x}{2}"),
        ({"solution": "First \\boxed{x}, then $\\boxed{\\frac{x}{2}}$."}, "\\frac{x}{2}"),
        ({"solution": "We get $\\boxed 5$."}, "5"),
    ],
)
def test_the_reference_is_the_answer_or_the_last_box(tmp_path, row, answer):
    assert load(tmp_path / "a.jsonl", **row).train[0].answer == answer


@pytest.mark.parametrize("solution", ["It is 5.", "$\\boxed{}$", "$\\boxed{5$"])
def test_a_row_without_a_reference_is_named(tmp_path, solution):
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1, field 'solution': has no \\boxed"):
        load(tmp_path / "a.jsonl", solution=solution)


def test_an_empty_answer_does_not_fall_back_to_the_solution(tmp_path):
    with pytest.raises(ValueError, match="line 1, field 'answer': empty"):
        load(tmp_path / "a.jsonl", answer="", solution="$\\boxed{5}$")


@pytest.mark.skipif(not DATA.exists(), reason=f"no MATH-500 at {DATA}")
@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_every_real_row(make):
    path = str(DATA / "test.jsonl")
    found = Math(path=path, held_out=100, id_column="unique_id").load(make(), 2048)
    assert (len(found.train), len(found.evaluation), found.dropped) == (400, 100, {})
    # The file has both an answer and a solution for every problem: the last box is the answer.
    boxed = Math(path=path, answer_column="none").load(make(), 2048)
    assert len(boxed.train) == 500
    assert all(p.answer == p.meta["answer"] for p in boxed.train)
