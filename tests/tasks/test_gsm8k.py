"""GSM8K rows, made up and real."""

import json
from pathlib import Path

import pytest

from rlstep.tasks.gsm8k import Gsm8k
from rlstep.tensors.templates import PromptTemplate
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

DATA = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"


def load(path, answer):
    row = {"question": "How much are 16-3-4 eggs at $2?", "answer": answer}
    path.write_text(json.dumps(row) + "\n")
    return Gsm8k(path=str(path)).load(byte_level_tokenizer(), 64)


def test_the_reference_stands_after_the_hashes(tmp_path):
    answer = "16-3-4=<<16-3-4=9>>9\n9*2=18\n#### 1,018"
    (prompt,) = load(tmp_path / "a.jsonl", answer).train
    assert prompt.answer == "1,018"
    assert prompt.meta["problem"] == "How much are 16-3-4 eggs at $2?"


@pytest.mark.parametrize("answer", ["18", "9*2=18\n####", "#### \n"])
def test_a_row_without_a_reference_is_named(tmp_path, answer):
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1, field 'answer': has no reference"):
        load(tmp_path / "a.jsonl", answer)


@pytest.mark.skipif(not DATA.exists(), reason=f"no GSM8K at {DATA}")
@pytest.mark.slow
@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_every_real_row(make):
    suffix = "Let's think step by step.\nStep 1:"
    task = Gsm8k(
        path=str(DATA / "train.jsonl"),
        evaluation=str(DATA / "test.jsonl"),
        template=PromptTemplate(text="{problem}\n", suffix=suffix),
    )
    found = task.load(make(), 512)
    assert (len(found.train), len(found.evaluation), found.dropped) == (7473, 1319, {})
    every = [*found.train, *found.evaluation]
    assert len({p.prompt_id for p in every}) == 8792
    assert all(p.answer.replace(",", "").lstrip("-").isdigit() for p in every)
    assert all(p.text.endswith(suffix) for p in every)
    assert found.train[0].answer == "72" and found.evaluation[0].answer == "18"
