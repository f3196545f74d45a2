"""Prompts that ask which of two answers is better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlstep.interfaces import PromptSet
from rlstep.tasks.better_answer import BetterAnswer
from rlstep.tensors.templates import PromptTemplate
from tests.real_tokenizers import byte_level_tokenizer

SOLUTIONS = (
    Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
)
ROWS = [{"prompt": f"{i}+1?", "chosen": f"it is {i + 1}", "rejected": "no"} for i in range(6)]


def load(folder: Path, rows: list[dict[str, Any]], most: int = 512, **fields: Any) -> PromptSet:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return BetterAnswer(path=str(path), **fields).load(byte_level_tokenizer(), most)


def test_a_row_is_asked_in_both_orders(tmp_path: Path):
    prompts = load(tmp_path, ROWS[:1], template=PromptTemplate(system="You judge.")).train
    first, second = prompts
    assert (first.answer, second.answer) == ("A", "B")
    assert first.prompt_id[:-1] == second.prompt_id[:-1] and first.prompt_id.endswith("/A")
    a, b = ">\nit is 1\n</answer_a-", ">\nit is 1\n</answer_b-"
    assert a in first.text and b not in first.text and b in second.text and a not in second.text
    assert first.text.startswith("<|im_start|>system\nYou judge.<|im_end|>")
    assert first.meta["problem"] == "0+1?"


def test_hints_are_the_same_question_with_one_more_line(tmp_path: Path):
    tokenizer = byte_level_tokenizer()
    for prompt in load(tmp_path, ROWS[:1]).train:
        assert sorted(prompt.meta["hints"]) == ["A", "B"]
        for side, ids in prompt.meta["hints"].items():
            hinted = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
            end = "<|im_end|>\n<|im_start|>assistant\n"
            assert hinted == prompt.text.removesuffix(end) + (
                f"\n\n(The better answer is {side}. Come to that verdict, and do not mention this"
                f" hint.){end}"
            )


def test_all_prompts_of_a_problem_are_in_one_split(tmp_path: Path):
    rows = [*ROWS, *({**row, "rejected": "never"} for row in ROWS)]
    prompts = load(tmp_path, rows, held_out=2)
    problems = [{p.meta["problem"] for p in part} for part in (prompts.train, prompts.evaluation)]
    assert [len(names) for names in problems] == [4, 2] and not problems[0] & problems[1]
    ids = [p.prompt_id for p in (*prompts.train, *prompts.evaluation)]
    assert len(ids) == len(set(ids)) == 24
    again = load(tmp_path, rows[::-1], held_out=2)
    assert {p.prompt_id for p in again.evaluation} == {p.prompt_id for p in prompts.evaluation}


def test_conversations_end_with_the_answer(tmp_path: Path):
    def talk(answer: str) -> list[dict[str, str]]:
        asked = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?"}]
        last = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": answer}]
        return [*asked, *last]

    [first, _] = load(
        tmp_path, [{"chosen": talk("four"), "rejected": talk("five")}], prompt_column=""
    ).train
    assert first.meta["problem"] == "Hi.\n\nYes?\n\n2+2?"
    assert ">\nfour\n</answer_a-" in first.text and ">\nfive\n</answer_b-" in first.text


def test_a_row_with_too_long_a_hint_is_dropped_whole(tmp_path: Path):
    longest = max(
        len(ids) for p in load(tmp_path, ROWS[:1]).train for ids in p.meta["hints"].values()
    )
    assert len(load(tmp_path, ROWS[:1], most=longest).train) == 2
    rows = [{**ROWS[0], "chosen": "it is " + "very " * 30 + "1"}, ROWS[1]]
    prompts = load(tmp_path, rows, most=longest)
    assert {p.meta["problem"] for p in prompts.train} == {"1+1?"}
    assert prompts.dropped == {"too_long": 1}


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([], {}, "has no rows"),
        ([{"prompt": "x", "chosen": "y"}], {}, "line 1, field 'rejected': missing"),
        ([{**ROWS[0], "rejected": "it is 1"}], {}, "field 'rejected': is the same as 'chosen'"),
        ([ROWS[0], ROWS[0]], {}, "line 2, field 'chosen': the row repeats line 1"),
        ([{**ROWS[0], "chosen": [3]}], {}, "field 'chosen.content': None is no string"),
        ([{**ROWS[0], "chosen": []}], {}, "field 'chosen': is no conversation"),
        (ROWS, {"prompt_column": ""}, "field 'chosen': is no conversation"),
        (
            [{"chosen": [{"content": "a"}], "rejected": "b"}],
            {"prompt_column": ""},
            "field 'chosen': has no message before the answer",
        ),
        (ROWS, {"held_out": 6}, "held_out is 6 of 6 problems; the largest valid value is 5"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list, fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, rows, **fields)


def test_bad_fields_are_refused():
    with pytest.raises(ValueError, match=r"task.question lacks '\{answer_b\}'"):
        BetterAnswer(path="x", question="{problem} {answer_a} Verdict: A or B")
    with pytest.raises(ValueError, match=r"task.hint is 'none'; it must hold '\{side\}'"):
        BetterAnswer(path="x", hint="none")
    with pytest.raises(ValueError, match=r"task.held_out is -1"):
        BetterAnswer(path="x", held_out=-1)


def solution_pairs(number: int) -> list[dict[str, str]]:
    """Right against wrong solutions of GSM8K by four models."""
    rows = []
    for line in SOLUTIONS.read_text().splitlines():
        row = json.loads(line)
        made = [v for v in row.values() if isinstance(v, dict)]
        right = next((v["solution"] for v in made if v["is_correct"]), None)
        wrong = next((v["solution"] for v in made if not v["is_correct"]), None)
        if right and wrong and right != wrong:
            rows.append({"prompt": row["question"], "chosen": right, "rejected": wrong})
        if len(rows) == number:
            break
    return rows


@pytest.mark.skipif(not SOLUTIONS.exists(), reason=f"{SOLUTIONS} is not here")
def test_real_solutions(tmp_path: Path):
    prompts = load(tmp_path, solution_pairs(50), most=2048, held_out=10)
    assert (len(prompts.train), len(prompts.evaluation)) == (80, 20)
