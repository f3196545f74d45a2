"""Solutions from a file: what is trained, in which order, and what is wrong with a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.examples.solutions import Solutions
from rlstep.tensors.templates import PromptTemplate
from tests.real_tokenizers import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer()


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def numbered(folder: Path, n: int) -> str:
    rows = [{"problem": f"How much is {i}?", "solution": f"It is {i}."} for i in range(n)]
    return written(folder / "rows.jsonl", *rows)


def test_the_solution_and_its_end_are_trained_and_the_problem_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"q": "How much?", "deep": {"a": ["So 18."]}})
    examples = Solutions(
        path=path, problem="q", solution="deep.a.0", template=PromptTemplate(text="{problem}\n")
    )
    [samples] = examples.batches(TOKENIZER, 0)
    [one] = samples.sequences
    trained = one.token_ids[one.loss_mask].tolist()
    assert trained[-1] == TOKENIZER.eos_token_id
    assert TOKENIZER.decode(trained[:-1]) == "So 18."
    read = TOKENIZER.decode(one.token_ids[~one.loss_mask].tolist())
    assert read.count("How much?\n") == 1 and "18" not in read
    assert samples.targets[0].tolist() == samples.weights[0].tolist() == one.loss_mask.tolist()
    assert examples.held_out(TOKENIZER) is None


def test_every_epoch_has_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    examples = Solutions(path=numbered(tmp_path, 10), batch=4, epochs=3)
    batches = list(examples.batches(TOKENIZER, 7))
    assert [len(b.sequences) for b in batches] == [4, 4, 2] * 3
    names = [s.prompt_id for b in batches for s in b.sequences]
    epochs = [names[i : i + 10] for i in (0, 10, 20)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    again, other = (
        [s.prompt_id for b in examples.batches(TOKENIZER, seed) for s in b.sequences]
        for seed in (7, 8)
    )
    assert again == names != other


def test_what_is_held_out_is_another_file(tmp_path: Path) -> None:
    held = written(tmp_path / "held.jsonl", {"problem": "a", "solution": "b"})
    examples = Solutions(path=numbered(tmp_path, 3), evaluation=held)
    samples = examples.held_out(TOKENIZER)
    assert samples is not None and len(samples.sequences) == 1
    assert np.isfinite(samples.targets[0]).all()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"problem": "a"}, "line 2, field 'solution': missing"),
        ({"problem": "a", "solution": " "}, "line 2, field 'solution': empty"),
        ({"problem": "a", "solution": 3}, "line 2, field 'solution': 3 is no string"),
        ({"problem": "", "solution": "b"}, "line 2, field 'problem': empty"),
        (
            {"problem": "a", "solution": "b " * 40},
            r"line 2, field 'solution': makes \d+ tokens with its prompt; examples.longest is 32",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_named(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"problem": "a", "solution": "b"}, row)
    with pytest.raises(ValueError, match=words):
        list(Solutions(path=path, longest=32).batches(TOKENIZER, 0))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"path": ""}, "examples.path"),
        ({"batch": 0}, "examples.batch is 0"),
        ({"epochs": 0}, "examples.epochs is 0"),
        ({"longest": 0}, "examples.longest is 0"),
    ],
)
def test_bad_fields(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Solutions(**{"path": "a.jsonl", **fields})
