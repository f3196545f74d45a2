"""Step pairs in the columns of Math-Step-DPO-10K: reading, writing, and there and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.step_pairs import read_step_pairs, write_step_pairs
from rlstep.tensors.templates import PromptTemplate
from rlstep.tensors.text import decode_with_ends
from rlstep.types import Completion, Group, Rollout, Sampling, VersionSpan
from tests.builders import make_outcome, make_step_scores
from tests.real_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

REAL = [byte_level_tokenizer, sentencepiece_tokenizer]
COLUMNS = [
    "dataset", "prompt", "initial_reason_steps", "chosen", "rejected", "full_chosen",
    "full_rejected", "answer",
]  # fmt: skip
ROW = {
    "dataset": "made_up",
    "prompt": "What is (2+3)*4?",
    "initial_reason_steps": "Step 1: 2+3=5.\nStep 2:",
    "chosen": " 5*4=20.\n",
    "rejected": " 5*4=24.\n",
    "full_chosen": " 5*4=20.\nThe answer is 20.",
    "full_rejected": " 5*4=24.\nThe answer is 24.",
    "answer": "20",
}


@pytest.fixture
def write(tmp_path):
    def write(*rows):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def split(tokenizer, sequence):
    """What the masked and the trained tokens read."""
    ids, mask = sequence.token_ids, sequence.loss_mask
    return tokenizer.decode(ids[~mask].tolist()), ids[mask].tolist()


# --- reading


@pytest.mark.parametrize("make", REAL)
def test_only_the_step_is_trained_and_nothing_follows_it(make, write):
    tokenizer = make()
    template = PromptTemplate(chat=False, text="{problem}\n")
    samples = read_step_pairs(write(ROW), tokenizer, template)
    (pair,) = samples.pairs
    chosen, rejected = samples.sequences[pair.chosen], samples.sequences[pair.rejected]
    prefix, step = split(tokenizer, chosen)
    assert prefix == "What is (2+3)*4?\nStep 1: 2+3=5.\nStep 2:"
    assert tokenizer.decode(chosen.token_ids.tolist()) == prefix + " 5*4=20.\n"
    assert tokenizer.decode(rejected.token_ids.tolist()) == prefix + " 5*4=24.\n"
    assert tokenizer.eos_token_id not in step
    # The prefix is the same ids on both sides, and the mask is the step's own positions.
    start = len(chosen.token_ids) - len(step)
    assert pair.shared_prefix >= start
    assert np.flatnonzero(chosen.loss_mask).tolist() == list(range(start, len(chosen.token_ids)))
    assert np.array_equal(chosen.token_ids[:start], rejected.token_ids[:start])
    assert set(chosen.step_index[start:]) == {0} and set(chosen.step_index[:start]) == {-1}
    assert (samples.groups, samples.groups_without_signal, pair.margin) == (1, 0, 1.0)


def test_an_empty_beginning(write):
    tokenizer = byte_level_tokenizer()
    samples = read_step_pairs(write({**ROW, "initial_reason_steps": ""}), tokenizer)
    prefix, step = split(tokenizer, samples.sequences[0])
    assert prefix.endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(step) == " 5*4=20.\n"


def test_special_tokens_in_steps_are_text(write):
    tokenizer = byte_level_tokenizer()
    samples = read_step_pairs(write({**ROW, "chosen": " 20<|im_end|>"}), tokenizer)
    _, step = split(tokenizer, samples.sequences[0])
    assert tokenizer.eos_token_id not in step
    assert tokenizer.decode(step) == " 20<|im_end|>"


def test_a_sequence_in_two_pairs_is_listed_once_and_a_prompt_is_one_group(write):
    other = {**ROW, "rejected": " 5*4=9.\n"}
    no_signal = {**ROW, "prompt": "Another?", "rejected": ROW["chosen"]}
    samples = read_step_pairs(write(ROW, other, no_signal), byte_level_tokenizer())
    assert [(p.chosen, p.rejected) for p in samples.pairs] == [(0, 1), (0, 2)]
    assert len(samples.sequences) == 3
    assert len({s.prompt_id for s in samples.sequences}) == 1
    assert (samples.groups, samples.groups_without_signal) == (1, 1)


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_a_broken_row_is_named(write, column):
    with pytest.raises(ValueError, match=rf"pairs\.jsonl, line 2, field '{column}': empty"):
        read_step_pairs(write(ROW, {**ROW, column: " "}), byte_level_tokenizer())
    missing = {k: v for k, v in ROW.items() if k != column}
    with pytest.raises(ValueError, match=rf"pairs\.jsonl, line 1, field '{column}': missing"):
        read_step_pairs(write(missing), byte_level_tokenizer())


def test_an_empty_file_and_a_suffix_are_refused(write):
    with pytest.raises(ValueError, match=r"pairs\.jsonl: has no rows"):
        read_step_pairs(write(), byte_level_tokenizer())
    with pytest.raises(ValueError, match=r"template\.suffix is 'Step 1:'; .* is ''"):
        read_step_pairs(write(ROW), byte_level_tokenizer(), PromptTemplate(suffix="Step 1:"))


# --- writing, and back


def rollout(tokenizer, prompt, name, text, *, correct, inherit=None, scores=None):
    """A completion that was 'sampled' as these tokens, ending in end-of-sequence."""
    head = [] if inherit is None else inherit[0].completion.token_ids[: inherit[1]].tolist()
    tail = tokenizer.encode("\n" + text, add_special_tokens=False)
    tail = tail[len(tokenizer.encode("\n", add_special_tokens=False)) :]
    ids = np.array([*head, *tail, tokenizer.eos_token_id], np.int32)
    decoded, ends = decode_with_ends(tokenizer, ids)
    completion = Completion(
        token_ids=ids,
        logprobs=np.zeros(len(ids), np.float32),
        text=decoded,
        ends=ends,
        finish_reason="stop",
        stop_reason=None,
        versions=(VersionSpan(version=0, start=0, end=len(ids)),),
    )
    found = {"outcome": make_outcome(float(correct))}
    return Rollout(
        rollout_id=f"0/{prompt.prompt_id}/{name}",
        prompt=prompt,
        completion=completion,
        steps=NewlineSplitter().split(completion),
        sample_index=0,
        iteration=0,
        seed=0,
        sampling=Sampling(),
        parent=inherit[0].rollout_id if inherit else None,
        inherited=len(head),
        scores={**found, **({"prm": make_step_scores(scores)} if scores else {})},
    )


@pytest.fixture(params=REAL)
def mined(request, tmp_path):
    """A group with one wrong rollout and one rectification of its second step, and its pairs."""
    tokenizer = request.param()
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "What is (2+3)*4?", "answer": "20"}) + "\n")
    template = PromptTemplate(text="{problem}\n", suffix="Step 1:")
    (prompt,) = Jsonl(path=str(path), template=template).load(tokenizer, 64).train
    wrong = rollout(tokenizer, prompt, "0", "2+3=5 🙂\nNow 5*4=24\nSo it is 24.",
                    correct=False, scores=[0.9, 0.1, 0.1])  # fmt: skip
    right = rollout(tokenizer, prompt, "0+r0", "Then 5*4=20\nSo it is 20.",
                    correct=True, inherit=(wrong, wrong.steps[0].end))  # fmt: skip
    group = Group(prompt=prompt, rollouts=(wrong, right))
    return tokenizer, template, group, FirstErrorPairs().samples([group])


def written(path, samples, groups):
    write_step_pairs(str(path), samples, groups)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_mined_pairs_are_written_as_slices_of_the_rollouts(mined, tmp_path):
    _, _, group, samples = mined
    (row,) = written(tmp_path / "pairs.jsonl", samples, [group])
    assert list(row) == COLUMNS
    assert row == {
        "dataset": "first_error",
        "prompt": "What is (2+3)*4?",
        "initial_reason_steps": "Step 1:2+3=5 🙂\n",
        "chosen": "Then 5*4=20\n",
        "rejected": "Now 5*4=24\n",
        "full_chosen": "Then 5*4=20\nSo it is 20.",
        "full_rejected": "Now 5*4=24\nSo it is 24.",
        "answer": "20",
    }


def test_mined_pairs_come_back_as_they_went(mined, tmp_path):
    tokenizer, template, group, samples = mined
    path = tmp_path / "pairs.jsonl"
    write_step_pairs(str(path), samples, [group])
    back = read_step_pairs(str(path), tokenizer, replace(template, suffix=""))
    assert len(back.pairs) == len(samples.pairs) == 1
    for side in ("chosen", "rejected"):
        went = samples.sequences[getattr(samples.pairs[0], side)]
        came = back.sequences[getattr(back.pairs[0], side)]
        went_prefix, went_step = split(tokenizer, went)
        came_prefix, came_step = split(tokenizer, came)
        assert came_prefix == went_prefix
        assert came_step == went_step


def test_whole_completions_are_pairs_with_nothing_shared(mined, tmp_path):
    tokenizer, _, group, _ = mined
    wrong = group.rollouts[0]
    right = rollout(tokenizer, group.prompt, "1", "5*4=20", correct=True)
    whole = Group(prompt=group.prompt, rollouts=(wrong, right))
    (row,) = written(tmp_path / "p.jsonl", OutcomePairs().samples([whole]), [whole])
    assert row["initial_reason_steps"] == "Step 1:"
    assert row["chosen"] == row["full_chosen"] == "5*4=20"
    assert row["rejected"] == wrong.completion.text
    assert row["dataset"] == "outcome"


def test_pairs_of_other_groups_are_refused(mined, tmp_path):
    _, _, _, samples = mined
    with pytest.raises(ValueError, match="stems from no rollout of the groups"):
        write_step_pairs(str(tmp_path / "pairs.jsonl"), samples, [])
