"""Judged steps of one's own: which tokens have a label, token by token, and what is wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.examples.judged import Judged, JudgedRows, judged_samples
from rlstep.examples.judged_steps import JudgedSteps
from rlstep.interfaces import Reader, StepInputs
from rlstep.scoring.step_models.math_shepherd import MathShepherdLayout
from rlstep.scoring.step_models.step_tags import StepTags
from rlstep.steps.newline import NewlineSplitter
from rlstep.tensors.inputs import own_inputs
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import LabelSamples, Prompt
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from tests.solutions import solution

BYTES = byte_level_tokenizer()
MISTRAL = sentencepiece_tokenizer()
BARE = PromptTemplate(chat=False, text="{problem}\n")
ROW = {"problem": "2+3*2", "steps": ["2+3=5", "So 7.", "7"], "labels": [1, None, 0.25]}


def written(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def only(examples: JudgedRows, tokenizer: Any = BYTES) -> LabelSamples:
    [samples] = examples.batches(tokenizer, 0)
    assert isinstance(samples, LabelSamples)
    return samples


def labels(samples: LabelSamples, number: int = 0) -> dict[int, tuple[float, float]]:
    """Target and weight by position."""
    mask = samples.sequences[number].loss_mask
    return {
        int(at): (float(samples.targets[number][at]), float(samples.weights[number][at]))
        for at in np.flatnonzero(mask)
    }


def test_labels_stand_at_the_steps_last_tokens(tmp_path: Path) -> None:
    samples = only(JudgedSteps(path=written(tmp_path, ROW), template=BARE))
    [sequence] = samples.sequences
    # Each step by itself, with the newline that ends it; the last one with the end token instead.
    tokens = "2 + 3 * 2 Ċ 2 + 3 = 5 Ċ So Ġ 7 .Ċ 7 <|im_end|>".split()
    assert BYTES.convert_ids_to_tokens(sequence.token_ids.tolist()) == tokens
    # 6 tokens of the problem, 6, 4 and 2 of the steps: they end at 11, 15 and 17; null is no label.
    assert labels(samples) == {11: (1.0, 1.0), 17: (0.25, 1.0)}
    assert sequence.step_index.tolist() == [-1] * 6 + [0] * 6 + [1] * 4 + [2] * 2
    assert samples.targets[0].dtype == samples.weights[0].dtype == np.float32
    assert samples.targets[0].sum() == 1.25 and samples.weights[0].sum() == 2.0


def test_a_solution_that_stops_at_its_error_has_no_end(tmp_path: Path) -> None:
    row = {"q": "2+3", "completions": ["2+3=6"], "good": [False], "n": [8]}
    examples = JudgedSteps(
        path=written(tmp_path, row),
        problem="q",
        steps="completions",
        labels="good",
        weights="n",
        whole=False,
        template=BARE,
        end="\n\n",
    )
    samples = only(examples)
    tokens = BYTES.convert_ids_to_tokens(samples.sequences[0].token_ids.tolist())
    assert tokens == "2 + 3 Ċ 2 + 3 = 6 ĊĊ".split()
    assert labels(samples) == {9: (0.0, 8.0)}


def test_the_policys_template_stands_around_the_problem(tmp_path: Path) -> None:
    template = PromptTemplate(text="Solve: {problem}", suffix="Step 1:")
    [sequence] = only(JudgedSteps(path=written(tmp_path, ROW), template=template)).sequences
    read = BYTES.decode(sequence.token_ids[sequence.step_index < 0].tolist())
    assert read == ("<|im_start|>user\nSolve: 2+3*2<|im_end|>\n<|im_start|>assistant\nStep 1:")


# --- where a layout reads them --------------------------------------------------------------------


def test_step_tags_are_trained_where_they_are_read(tmp_path: Path) -> None:
    layout = StepTags(tag=" good")
    samples = only(JudgedSteps(path=written(tmp_path, ROW), template=BARE, layout=layout))
    tokens = "2 + 3 * 2 Ċ 2 + 3 = 5 Ċ Ġgood So Ġ 7 .Ċ Ġgood 7 <|im_end|> Ġgood".split()
    assert BYTES.convert_ids_to_tokens(samples.sequences[0].token_ids.tolist()) == tokens
    assert labels(samples) == {12: (1.0, 1.0), 20: (0.25, 1.0)}


def test_math_shepherds_layout_is_trained_where_it_is_read(tmp_path: Path) -> None:
    samples = only(
        JudgedSteps(path=written(tmp_path, ROW), layout=MathShepherdLayout()), tokenizer=MISTRAL
    )
    tokens = "<s> ▁ 2 + 3 * 2 ▁Step ▁ 1 : ▁ 2 + 3 = 5 ▁ки".split()
    tokens += "<0x0A> Step ▁ 2 : ▁So ▁ 7 . ▁ки <0x0A> Step ▁ 3 : ▁ 7 ▁ки".split()
    assert MISTRAL.convert_ids_to_tokens(samples.sequences[0].token_ids.tolist()) == tokens
    assert labels(samples) == {17: (1.0, 1.0), 35: (0.25, 1.0)}


@pytest.mark.parametrize("layout", [None, StepTags(tag=" good")])
def test_a_run_reads_the_same_solution_at_the_same_tokens(layout: StepTags | None) -> None:
    """What a splitter makes of a sampled solution is what was trained on."""
    lines = ("2+3=5\n", "5*2=10\n", "so 10")
    rollout = solution("2+3*2?\n", *lines)
    spans = NewlineSplitter().split(rollout.completion)
    assert [(s.start, s.end) for s in spans] == [(s.start, s.end) for s in rollout.steps]
    read: Reader = layout.reader(BYTES, BYTES) if layout else own_inputs
    judged = Judged(steps=lines, targets=(1.0, 1.0, 0.0), weights=(1.0,) * 3, whole=False)
    samples = judged_samples([(rollout.prompt, judged)], BYTES, read if layout else None)
    inputs = read(rollout)
    assert isinstance(inputs, StepInputs)
    assert samples.sequences[0].token_ids.tolist() == inputs.token_ids.tolist()
    assert list(labels(samples)) == inputs.read_at.tolist()


def test_a_policy_of_another_vocabulary_is_read_alike_under_tags(tmp_path: Path) -> None:
    row = {"problem": "2+3*2?", "steps": ["2+3=5", "5*2=10"], "labels": [1, 0]}
    layout = StepTags(tag=" good")
    examples = JudgedSteps(path=written(tmp_path, row), template=BARE, layout=layout, whole=False)
    inputs = layout.reader(MISTRAL, BYTES)(solution("2+3*2?", "2+3=5\n", "5*2=10\n"))
    assert isinstance(inputs, StepInputs)
    samples = only(examples)
    assert samples.sequences[0].token_ids.tolist() == inputs.token_ids.tolist()
    assert list(labels(samples)) == inputs.read_at.tolist()


def test_text_is_never_a_special_token(tmp_path: Path) -> None:
    row = {"problem": "<|im_end|>?", "steps": ["a<|im_end|>", "good good"], "labels": [1, 0]}
    layout = StepTags(tag=" good")
    [sequence] = only(
        JudgedSteps(path=written(tmp_path, row), template=BARE, layout=layout)
    ).sequences
    ids = sequence.token_ids.tolist()
    assert ids.count(BYTES.eos_token_id) == 1 and ids[-2] == BYTES.eos_token_id
    assert (
        np.flatnonzero(sequence.token_ids == ids[-1]).tolist()
        == np.flatnonzero(sequence.loss_mask).tolist()
    )


# --- files ----------------------------------------------------------------------------------------


def test_rows_without_a_label_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = {**ROW, "labels": [None] * 3}
    path = written(tmp_path, silent, ROW, silent)
    with caplog.at_level(logging.WARNING):
        assert len(only(JudgedSteps(path=path)).sequences) == 1
    assert f"{path}: 2 left out, no step has a label; the first: {path}, line 1" in caplog.text
    with pytest.raises(ValueError, match="none of its rows is an example"):
        only(JudgedSteps(path=written(tmp_path, silent)))


def test_epochs_and_what_is_held_out(tmp_path: Path) -> None:
    rows = [{**ROW, "problem": f"{i}?"} for i in range(5)]
    held = written(tmp_path, ROW, name="held.jsonl")
    examples = JudgedSteps(path=written(tmp_path, *rows), evaluation=held, batch=2, epochs=2)
    batches = list(examples.batches(BYTES, 3))
    assert [len(b.sequences) for b in batches] == [2, 2, 1] * 2
    names = [s.prompt_id for b in batches for s in b.sequences]
    assert sorted(names[:5]) == sorted(names[5:]) and names[:5] != names[5:]
    again = [s.prompt_id for b in examples.batches(BYTES, 3) for s in b.sequences]
    assert again == names
    held_out = examples.held_out(BYTES)
    assert held_out is not None and len(held_out.sequences) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": "2+3=5"}, "line 2, field 'steps': '2\\+3=5' is no list"),
        ({"steps": []}, "line 2, field 'steps': is empty"),
        ({"steps": ["a", " ", "b"]}, "line 2, field 'steps.1': empty"),
        ({"labels": [1, 0]}, "line 2, field 'labels': has 2 entries; the row has 3 steps"),
        ({"labels": [1, 1.5, 0]}, r"line 2, field 'labels.1': is 1.5; a number in \[0, 1\], or"),
        ({"labels": [1, "+", 0]}, "line 2, field 'labels.1': is '\\+'"),
        ({"n": [1, -1, 0]}, "line 2, field 'n.1': is -1; a number from 0 on, or null"),
        ({"problem": 7}, "line 2, field 'problem': 7 is no string"),
        ({"steps": ["2 " * 99] * 3}, r"field 'steps': makes \d+ tokens with its prompt; examples"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    rows = {**ROW, "n": [1, 1, 1]}
    path = written(tmp_path, rows, {**rows, **change})
    with pytest.raises(ValueError, match=words):
        list(JudgedSteps(path=path, weights="n", longest=64).batches(BYTES, 0))


@pytest.mark.parametrize("field", ["path", "problem", "steps", "labels"])
def test_bad_fields(field: str) -> None:
    with pytest.raises(ValueError, match=rf"examples\.{field} is ''; name the"):
        JudgedSteps(**dict[str, Any]({"path": "a.jsonl", field: ""}))


def test_a_layouts_tag_must_be_a_token(tmp_path: Path) -> None:
    examples = JudgedSteps(path=written(tmp_path, ROW), layout=StepTags(tag=" кик"))
    with pytest.raises(ValueError, match=r"layout\.tag is ' кик', which the tokenizer splits"):
        list(examples.batches(BYTES, 0))


def test_a_prompt_of_a_task_is_taken_as_it_is() -> None:
    prompt = Prompt(prompt_id="p", token_ids=np.array([5, 6], np.int32), text="?", answer="")
    judged = Judged(steps=("7\n", "8"), targets=(1.0, 0.0), weights=(2.0, 0.0))
    samples = judged_samples([(prompt, judged)], BYTES)
    assert samples.sequences[0].token_ids[:2].tolist() == [5, 6]
    assert samples.sequences[0].prompt_id == "p" and labels(samples) == {3: (1.0, 2.0)}
