"""HumanEval rows, made up and real."""

import json
from pathlib import Path

import pytest

from rlstep.scoring.programs.code_tests import Tests
from rlstep.tasks.humaneval import HumanEval
from rlstep.tensors.templates import PromptTemplate
from tests.real_tokenizers import byte_level_tokenizer

DATA = Path(__file__).parents[3] / "shared" / "data" / "humaneval" / "HumanEval.jsonl.gz"
ROW = {
    "task_id": "Mine/0",
    "prompt": 'def half(x):\n    """Half of it."""\n',
    "entry_point": "half",
    "canonical_solution": "    return x / 2\n",
    "test": "def check(candidate):\n    assert candidate(4) == 2\n",
}


def load(path, row, **fields):
    path.write_text(json.dumps(row) + "\n")
    return HumanEval(path=str(path), **fields).load(byte_level_tokenizer(), 64)


def test_a_row_becomes_a_prompt_and_its_tests(tmp_path):
    template = PromptTemplate(chat=False, text="Complete:\n{problem}")
    (prompt,) = load(tmp_path / "a.jsonl", ROW, template=template).train
    assert (prompt.prompt_id, prompt.text) == ("Mine/0", "Complete:\n" + ROW["prompt"])
    assert Tests.read(prompt.answer) == Tests(
        test=ROW["test"], entry_point="half", setup=ROW["prompt"]
    )


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("test", "", "empty"),
        ("test", 3, "3 is no string"),
        ("entry_point", "half(", r"'half\(' is no Python name"),
        ("entry_point", None, "None is no string"),
        ("prompt", " ", "empty"),
        ("task_id", None, "None is no string"),
    ],
)
def test_a_broken_row_is_named(tmp_path, field, value, problem):
    with pytest.raises(ValueError, match=rf"a\.jsonl, line 1, field '{field}': {problem}"):
        load(tmp_path / "a.jsonl", {**ROW, field: value})


@pytest.mark.skipif(not DATA.exists(), reason=f"no HumanEval at {DATA}")
def test_every_real_row_and_a_split_by_id():
    found = HumanEval(path=str(DATA), held_out=64).load(byte_level_tokenizer(), 1024)
    assert (len(found.train), len(found.evaluation), found.dropped) == (100, 64, {})
    every = [*found.train, *found.evaluation]
    assert {p.prompt_id for p in every} == {f"HumanEval/{i}" for i in range(164)}
    tests = {p.prompt_id: Tests.read(p.answer) for p in every}
    assert tests["HumanEval/0"].entry_point == "has_close_elements"
    assert all(f"def {t.entry_point}(" in t.setup for t in tests.values())
