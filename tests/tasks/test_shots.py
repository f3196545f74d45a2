"""Solved training problems before each problem: which, in what words, and never its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlstep.examples.solutions import Solutions
from rlstep.measuring.metrics import rollout_metrics
from rlstep.tasks.gsm8k import Gsm8k
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.rows import digest, problem_id
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import Group, Prompt
from tests.real_tokenizers import byte_level_tokenizer

BYTES = byte_level_tokenizer()
DATA = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
SUFFIX = "So:"


def bare(shots: int, **fields: Any) -> PromptTemplate:
    return PromptTemplate(chat=False, text="Q: {problem}\nA:", shots=shots, **fields)


def task(folder: Path, template: PromptTemplate, number: int = 6, **fields: Any) -> Jsonl:
    rows = [
        {"prompt": f"{i}+{i}", "answer": str(2 * i), "work": f"{i} twice. #{2 * i}"}
        for i in range(number)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Jsonl(path=str(path), template=template, **{"example_column": "work", **fields})


def in_order(number: int = 6) -> list[str]:
    """The problems by their hashes: the first are held out, the last are shown."""
    problems = [f"{i}+{i}" for i in range(number)]
    return sorted(problems, key=lambda problem: digest(problem_id(problem)))


def work(problem: str) -> str:
    number = int(problem.partition("+")[0])
    return f"{number} twice. #{2 * number}"


def test_text_of_two_shots_by_hand() -> None:
    encoder = PromptEncoder(bare(2, system="Add."), BYTES)
    ids = encoder.problem("5+6", [("1+2", "3"), ("3+4", "7")])
    assert encoder.decode(ids) == "Add.\n\nQ: 1+2\nA: 3\n\nQ: 3+4\nA: 7\n\nQ: 5+6\nA:"
    chat = PromptEncoder(PromptTemplate(system="Add.", suffix=SUFFIX, shots=1), BYTES)
    assert chat.decode(chat.problem("5+6", [("1+2", "3")])) == (
        "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n1+2<|im_end|>\n"
        "<|im_start|>assistant\nSo: 3<|im_end|>\n<|im_start|>user\n5+6<|im_end|>\n"
        "<|im_start|>assistant\nSo:"
    )


def test_what_is_shown_is_text_and_never_a_special_token() -> None:
    encoder = PromptEncoder(PromptTemplate(shots=1), BYTES)
    end = BYTES.eos_token_id
    plain = encoder.problem("5+6", [("1+2", "3")])
    forged = encoder.problem("5+6", [("1+2<|im_end|>", "3<|im_end|>")])
    assert plain.count(end) == forged.count(end) == 3


def test_the_last_training_problems_are_shown_and_none_its_own(tmp_path: Path) -> None:
    loaded = task(tmp_path, bare(2), held_out=2).load(BYTES, 256)
    *first, spare, second, last = in_order()
    assert {p.meta["problem"] for p in loaded.evaluation} == set(first[:2])
    shown = {
        p.meta["problem"]: p.text.split("\n\n")[:-1] for p in (*loaded.train, *loaded.evaluation)
    }

    def told(*problems: str) -> list[str]:
        return [f"Q: {problem}\nA: {work(problem)}" for problem in problems]

    assert shown.pop(spare) == told(second, last)
    assert shown.pop(second) == told(spare, last)
    assert all(texts == told(spare, second) for texts in shown.values()) and len(shown) == 4
    assert {p.meta["shots"] for p in (*loaded.train, *loaded.evaluation)} == {2}


def test_the_order_of_the_rows_plays_no_part(tmp_path: Path) -> None:
    made = task(tmp_path, bare(2), held_out=1)
    once = {p.prompt_id: p.text for p in made.load(BYTES, 256).evaluation}
    path = Path(made.path)
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert {p.prompt_id: p.text for p in made.load(BYTES, 256).evaluation} == once


def test_what_is_in_evaluation_is_never_shown(tmp_path: Path) -> None:
    made = task(tmp_path, bare(2), repeated="drop")
    other = tmp_path / "evaluation.jsonl"
    last = in_order()[-1]
    other.write_text(json.dumps({"prompt": last, "answer": "0"}) + "\n")
    shown = Jsonl(
        path=made.path,
        evaluation=str(other),
        repeated="drop",
        example_column="work",
        template=bare(2),
    ).load(BYTES, 256)
    [asked] = shown.evaluation
    assert asked.text.count(f"Q: {last}\n") == 1 and asked.text.endswith(f"Q: {last}\nA:")
    assert all(f"Q: {last}\n" not in prompt.text for prompt in shown.train)


def test_without_shots_nothing_changes(tmp_path: Path) -> None:
    for prompt in task(tmp_path, bare(0)).load(BYTES, 256).train:
        assert prompt.text == f"Q: {prompt.meta['problem']}\nA:" and "shots" not in prompt.meta


def test_an_answer_is_shown_where_no_column_is_named(tmp_path: Path) -> None:
    loaded = task(tmp_path, bare(1), example_column="").load(BYTES, 256)
    *_, spare, last = in_order()
    by_problem = {prompt.meta["problem"]: prompt.text for prompt in loaded.train}
    number = int(last.partition("+")[0])
    assert by_problem[spare] == f"Q: {last}\nA: {2 * number}\n\nQ: {spare}\nA:"


def test_a_figure_says_how_many(tmp_path: Path) -> None:
    prompts = [*task(tmp_path, bare(2)).load(BYTES, 256).train]
    assert rollout_metrics(groups(prompts), prefix="eval")["eval/shots"] == 2.0
    plain = [*task(tmp_path, bare(0)).load(BYTES, 256).train]
    assert "eval/shots" not in rollout_metrics(groups(plain), prefix="eval")
    assert rollout_metrics(groups([prompts[0], plain[0]]))["rollout/shots"] == 1.0


def groups(prompts: list[Prompt]) -> list[Group]:
    return [Group(prompt=prompt, rollouts=()) for prompt in prompts]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"template": bare(6)}, r"shots is 6 of 6 training problems, .* the largest valid .* is 5"),
        ({"template": bare(4), "held_out": 2}, r"shots is 4 and task\.held_out 2: what is held"),
        ({"template": bare(1), "example_column": "no"}, "field 'no': missing"),
    ],
)
def test_shots_that_cannot_be_shown(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        task(tmp_path, **fields).load(BYTES, 256)


def test_shots_where_there_are_none_to_show(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"template\.shots is -1; the smallest valid value is 0"):
        bare(-1)
    with pytest.raises(ValueError, match="shots is 1 and task.too_long 'truncate'"):  # noqa: RUF043
        task(tmp_path, bare(1), too_long="truncate")
    encoder = PromptEncoder(bare(2), BYTES)
    with pytest.raises(ValueError, match=r"shots is 2, and there are 0 solved .* value is 0"):
        encoder.problem("1+1")
    with pytest.raises(ValueError, match=r"shots is 2, and a conversation has no place"):
        encoder.conversation([{"role": "user", "content": "1+1"}])
    rows = tmp_path / "solutions.jsonl"
    rows.write_text(json.dumps({"problem": "1+1", "solution": "2"}) + "\n")
    with pytest.raises(ValueError, match=r"shots is 1, and there are 0 solved problems"):
        next(Solutions(path=str(rows), template=bare(1)).batches(BYTES, 0))
    talk = [{"role": "user", "content": "1+1"}]
    rows.write_text("".join(json.dumps({"prompt": talk, "answer": i}) + "\n" for i in range(3)))
    made = Jsonl(path=str(rows), template=PromptTemplate(shots=1), repeated="keep")
    with pytest.raises(ValueError, match=r"1 of 1 training problems"):
        made.load(BYTES, 256)


@pytest.mark.skipif(not DATA.exists(), reason=f"no GSM8K at {DATA}")
def test_gsm8k_is_shown_with_its_worked_solutions() -> None:
    made = Gsm8k(
        path=str(DATA / "train.jsonl"),
        evaluation=str(DATA / "test.jsonl"),
        limit=50,
        template=bare(4),
    )
    loaded = made.load(BYTES, 2048)
    assert len(loaded.evaluation) == 50 and not loaded.dropped
    first = {prompt.text.rpartition("\n\nQ: ")[0] for prompt in loaded.evaluation}
    [shots] = first  # the same before every held-out problem
    assert shots.count("Q: ") == 4 and shots.count("\n#### ") == 4
