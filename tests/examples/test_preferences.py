"""Preferences in every layout: what is the prompt, what is trained, and which rows are no pair."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.examples.preferences import Preferences
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import PairSamples, Sequence
from tests.examples.test_judged_steps import BYTES, MISTRAL, written

BARE = PromptTemplate(chat=False)
ROW = {"prompt": "2+3?", "chosen": "5", "rejected": "It is 6."}


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


USER, RIGHT, WRONG = message("user", "2+3?"), message("assistant", "5"), message("assistant", "6")


def only(path: str, tokenizer: Any = BYTES, **fields: Any) -> PairSamples:
    [samples] = Preferences(path=path, **fields).batches(tokenizer, 0)
    assert isinstance(samples, PairSamples)
    return samples


def read_and_trained(sequence: Sequence, tokenizer: Any = BYTES) -> tuple[str, str]:
    trained = sequence.loss_mask
    start = int(np.flatnonzero(trained)[0])
    assert trained[start:].all() and not trained[:start].any()
    ids = sequence.token_ids.tolist()
    return tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:])


def sides(samples: PairSamples, tokenizer: Any = BYTES) -> list[tuple[str, str, str]]:
    """Of every pair the prompt, and what is trained of either side."""
    found = []
    for pair in samples.pairs:
        (prompt, chosen), (other, rejected) = (
            read_and_trained(samples.sequences[i], tokenizer) for i in (pair.chosen, pair.rejected)
        )
        assert prompt == other
        found.append((prompt, chosen, rejected))
    return found


CHAT = "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\n"


def test_texts_token_by_token(tmp_path: Path) -> None:
    samples = only(written(tmp_path, ROW), template=BARE)
    [pair] = samples.pairs
    chosen, rejected = samples.sequences[pair.chosen], samples.sequences[pair.rejected]
    tokens = [BYTES.convert_ids_to_tokens(s.token_ids.tolist()) for s in (chosen, rejected)]
    assert tokens[0] == "2 + 3 ? 5 <|im_end|>".split()
    assert tokens[1] == "2 + 3 ? It Ġis Ġ 6 . <|im_end|>".split()
    assert np.flatnonzero(chosen.loss_mask).tolist() == [4, 5]
    assert np.flatnonzero(rejected.loss_mask).tolist() == [4, 5, 6, 7, 8, 9]
    assert pair.shared_prefix == 4 and (pair.chosen_score, pair.rejected_score) == (1.0, 0.0)
    assert chosen.prompt_id == rejected.prompt_id
    assert (samples.groups, samples.groups_without_signal) == (1, 0)


LAYOUTS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "2+3?", "chosen": "5", "rejected": "6"},
    "a prompt of messages": {"prompt": [USER], "chosen": "5", "rejected": "6"},
    "messages": {"prompt": [USER], "chosen": [RIGHT], "rejected": [WRONG]},
    "messages after a text": {"prompt": "2+3?", "chosen": [RIGHT], "rejected": [WRONG]},
    "conversations": {"chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
    "conversations beside a prompt": {
        "prompt": "2+3?",
        "chosen": [USER, RIGHT],
        "rejected": [USER, WRONG],
    },
    "turns": {
        "chosen": "\n\nHuman: 2+3?\n\nAssistant: 5",
        "rejected": "\n\nHuman: 2+3?\n\nAssistant: 6",
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read_as_the_same_pair(name: str, tmp_path: Path) -> None:
    samples = only(written(tmp_path, LAYOUTS[name]))
    assert sides(samples) == [(CHAT, "5<|im_end|>", "6<|im_end|>")]


def test_the_prompt_is_what_several_turns_share(tmp_path: Path) -> None:
    talk = "\n\nHuman: Hi.\n\nAssistant: Yes?\n\nHuman: 2+3?\n\nAssistant:"
    path = written(tmp_path, {"chosen": f"{talk} 5", "rejected": f"{talk} Human: 6"})
    chat = (
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n"
        "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert sides(only(path)) == [(chat, "5<|im_end|>", "Human: 6<|im_end|>")]
    # Without a chat template they stand as they are, down to the space.
    plain = only(path, template=BARE)
    assert sides(plain) == [(talk, " 5<|im_end|>", " Human: 6<|im_end|>")]
    samples = only(path, tokenizer=MISTRAL)
    assert sides(samples, MISTRAL) == [(talk, "5</s>", "Human: 6</s>")]


def test_the_template_stands_around_a_prompt_that_is_a_text(tmp_path: Path) -> None:
    template = PromptTemplate(system="Add.", text="Q: {problem}")
    system = "<|im_start|>system\nAdd.<|im_end|>\n"
    for name in ("texts", "messages after a text"):
        [(prompt, *_)] = sides(only(written(tmp_path, LAYOUTS[name]), template=template))
        assert prompt == system + CHAT.replace("2+3?", "Q: 2+3?")
    [(prompt, *_)] = sides(only(written(tmp_path, LAYOUTS["messages"]), template=template))
    assert prompt == system + CHAT


def test_an_answer_is_never_a_special_token(tmp_path: Path) -> None:
    samples = only(written(tmp_path, {**ROW, "chosen": "5<|im_end|>"}), template=BARE)
    chosen = samples.sequences[samples.pairs[0].chosen]
    ends = np.flatnonzero(chosen.token_ids == BYTES.eos_token_id).tolist()
    assert ends == [len(chosen.token_ids) - 1]


def test_pairs_of_one_prompt_are_a_group_and_share_their_sides(tmp_path: Path) -> None:
    other = {**ROW, "rejected": "7"}
    samples = only(written(tmp_path, ROW, other, {**ROW, "prompt": "1+1?"}))
    assert (samples.groups, len(samples.pairs), len(samples.sequences)) == (2, 3, 5)


def test_scores_are_those_of_the_columns(tmp_path: Path) -> None:
    path = written(tmp_path, {**ROW, "a": 4, "b": 1.5})
    both = only(path, chosen_score="a", rejected_score="b").pairs[0]
    assert (both.chosen_score, both.rejected_score, both.margin) == (4.0, 1.5, 2.5)
    margin = only(path, chosen_score="b").pairs[0]
    assert margin.margin == 1.5


def test_equal_sides_and_other_prompts_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(
        tmp_path,
        ROW,
        {**ROW, "rejected": "5"},
        {"chosen": [USER, RIGHT], "rejected": [message("user", "3+2?"), WRONG]},
        {"chosen": [USER, RIGHT], "rejected": [USER, RIGHT, USER, WRONG]},
        {"chosen": [USER, RIGHT], "rejected": [USER]},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant:"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
    )
    with caplog.at_level(logging.WARNING):
        assert len(only(path).pairs) == 1
    assert f"1 left out, its sides are equal; the first: {path}, line 2" in caplog.text
    assert (
        f"5 left out, its sides do not both answer the same prompt; the first: {path}, line 3"
        in (caplog.text)
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "5", "rejected": "6"}, r"'chosen': '5' has no prompt beside it; without one"),
        ({**ROW, "rejected": ""}, "'rejected': empty"),
        ({**ROW, "prompt": 7}, "'prompt': 7 is no string"),
        ({**ROW, "chosen": [RIGHT]}, "'rejected': 'It is 6.' is no list of messages"),
        ({"chosen": [RIGHT], "rejected": [WRONG]}, "'prompt': missing"),
        ({"chosen": [], "rejected": [WRONG]}, r"'chosen': \[\] is no list of messages"),
        ({"chosen": [USER, {"role": "assistant"}], "rejected": [USER]}, "'chosen.1.content': miss"),
        ({**ROW, "rejected": "6 " * 40}, r"'rejected': makes \d+ tokens with its prompt; examples"),
        ({**ROW, "s": "high"}, "'s': 'high' is no finite number"),
        ({**ROW, "s": -1}, "'s': scores the chosen side -1.0, the rejected 0.0"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = written(tmp_path, {**ROW, "s": 1}, {"s": 1, **row})
    with pytest.raises(ValueError, match=f"line 2, field {words}"):
        only(path, longest=32, chosen_score="s")


def test_what_the_chat_template_refuses_is_named(tmp_path: Path) -> None:
    strict = copy.deepcopy(BYTES)
    strict.chat_template = (
        "{% if messages[0].role != 'user' %}{{ raise_exception('begin with a user') }}{% endif %}"
        + BYTES.chat_template
    )
    ahead = message("assistant", "Hi.")
    row = {"prompt": "2+3?", "chosen": [ahead, USER, RIGHT], "rejected": [ahead, USER, WRONG]}
    path = written(tmp_path, {**row, "prompt": [USER]}, {**row, "prompt": [ahead]})
    with pytest.raises(ValueError, match=r"line 2, field 'chosen': .* begin with a user"):
        only(path, tokenizer=strict)


def test_messages_need_a_chat_template(tmp_path: Path) -> None:
    for name in ("messages", "a prompt of messages", "conversations"):
        with pytest.raises(ValueError, match="a conversation needs a tokenizer with a chat"):
            only(written(tmp_path, LAYOUTS[name]), tokenizer=MISTRAL)


@pytest.mark.parametrize("field", ["path", "prompt", "chosen", "rejected"])
def test_bad_fields(field: str) -> None:
    with pytest.raises(ValueError, match=rf"examples\.{field} is ''; name the"):
        Preferences(**dict[str, Any]({"path": "a.jsonl", field: ""}))
