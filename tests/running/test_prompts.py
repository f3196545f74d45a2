"""The problems of a run: what of them is refused before anything starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.curriculum.level_dial import LevelDial
from rlstep.curriculum.pre_ppo import PrePpo
from rlstep.interfaces import PromptSet, Task, Tokenizer, Verifier
from rlstep.running.preparing import check_special, load_prompts
from rlstep.scoring.answers.by_task import ByTask, VerifierOf
from rlstep.tasks.arithmetic import AnswerLine, Arithmetic, arithmetic_tokenizer
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.logic import Logic, logic_tokenizer
from rlstep.testing.small import small_config, small_prompts
from rlstep.types import OutcomeScore, Verdict
from tests.real_tokenizers import byte_level_tokenizer, with_special

ARITHMETIC = ByTask(verifiers=(VerifierOf(task="arithmetic", verifier=AnswerLine()),))


@dataclass(frozen=True, kw_only=True)
class Given(Task):
    prompts: PromptSet

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        return self.prompts


@dataclass(frozen=True, kw_only=True)
class ReadsRow(Verifier):
    def verify(self, text: str, answer: str, row: Mapping[str, Any]) -> OutcomeScore:
        return OutcomeScore(value=1.0, verdict=Verdict.CORRECT, extracted="")


def loaded(verifier: Verifier, **meta: Any) -> PromptSet:
    """Two training problems and one for evaluation; the meta is of that one."""
    first, second, third = small_prompts(3)
    prompts = PromptSet(train=[first, second], evaluation=[replace(third, meta=meta)])
    config = small_config(task=Given(prompts=prompts), verifier=verifier)
    return load_prompts(config, arithmetic_tokenizer())


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.arange(3), "meta.extra is of type ndarray"),
        (date(2026, 1, 2), "meta.extra is of type date"),
        ({"A": [b""]}, r"meta\.extra\.A\.0 is of type bytes"),
    ],
)
def test_a_row_that_cannot_be_sent_is_refused_by_name(value: object, named: str) -> None:
    with pytest.raises(ValueError, match=rf"prompt 'c': {named}, .* and ReadsRow reads the row"):
        loaded(ReadsRow(), level=1, extra=value)


def test_a_verifier_that_does_not_read_the_row_minds_nothing_in_it() -> None:
    assert len(loaded(AnswerLine(), extra=np.arange(3)).evaluation) == 1
    assert len(loaded(ReadsRow(), extra=[1, {"a": None}]).evaluation) == 1


@dataclass(frozen=True, kw_only=True)
class OnlyCounts(Task):
    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        return PromptSet(train=[], evaluation=[], dropped={"odd": 3})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            Arithmetic(operations=4, train=8, evaluation=2),
            r"max_prompt_tokens is 2, and every prompt is longer: the shortest has \d+ tokens, the"
            r" longest \d+; dropped \{'too_long': 10\}",
        ),
        (
            Logic(train=8, evaluation=2),
            r"is 2, and every prompt is longer: the shortest has \d+ tokens",
        ),
        (OnlyCounts(), r"OnlyCounts has no training problem left; dropped \{'odd': 3\}"),
    ],
)
def test_no_problem_left(task: Task, message: str) -> None:
    tokenizer = arithmetic_tokenizer() if isinstance(task, Arithmetic) else logic_tokenizer()
    with pytest.raises(ValueError, match=message):
        load_prompts(small_config(task=task, max_prompt_tokens=2), tokenizer)


def test_all_rows_of_a_file_too_long(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"prompt": "1+" * i + "1", "answer": "1"} for i in (9, 5, 7)]
    rows.append({"prompt": "1", "answer": None})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for held_out in (0, 2):
        task = Jsonl(path=str(path), held_out=held_out)
        with pytest.raises(ValueError) as caught:
            load_prompts(small_config(task=task, max_prompt_tokens=4), arithmetic_tokenizer())
        assert str(caught.value) == (
            "max_prompt_tokens is 4, and every prompt is longer: the shortest has 11 tokens, the"
            " longest 19; dropped {'no_answer': 1, 'too_long': 3}"
        )


def test_no_evaluation_problem_left(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "1", "answer": "1"}')
    for row in ('{"prompt": "1+1+1+1", "answer": "4"}', '{"prompt": "2", "answer": null}'):
        (tmp_path / "b.jsonl").write_text(row)
        task = Jsonl(path=str(tmp_path / "a.jsonl"), evaluation=str(tmp_path / "b.jsonl"))
        with pytest.raises(ValueError, match=r"task.evaluation is '.*b.jsonl', and none of its"):
            task.load(arithmetic_tokenizer(), 4)


def test_too_few_problems_say_what_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "1", "answer": "1"}\n{"prompt": "2", "answer": null}\n')
    task = Jsonl(path=str(path))
    with pytest.raises(ValueError, match=r"only 1 training .* dropped \{'no_answer': 1\}"):
        load_prompts(small_config(task=task), arithmetic_tokenizer())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"further_prompts": 7}, r"the task's 8 .* largest valid further_prompts is 6"),
        ({"curriculum": PrePpo()}, r"curriculum\.domain is 'task', and prompt .* has no such"),
        ({"curriculum": PrePpo(domain="operations", share=0.01)}, r"curriculum\.share is 0\.01"),
        ({"curriculum": LevelDial(start=2)}, r"start is 2, .* levels \[1\]; .* value is 1"),
        ({"verifier": ARITHMETIC}, r"ByTask has none for prompt .* has task None"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_prompts(small_config(**fields), arithmetic_tokenizer())


def test_a_curriculum_over_a_task_without_levels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "{n}", "answer": "1"}}\n' for n in range(4)))
    config = small_config(task=Jsonl(path=str(path)), curriculum=LevelDial())
    with pytest.raises(ValueError, match=r"LevelDial goes by levels, and prompt .* has level None"):
        load_prompts(config, arithmetic_tokenizer())


@pytest.mark.parametrize("stop", ["<|stop|>", "\n<|stop|>"])
def test_a_stop_string_that_is_a_special_token_is_refused(stop: str) -> None:
    config = small_config()
    sampling = replace(config.rollouts.sampling, stop=(stop,))
    rollouts: Any = config.rollouts
    config = replace(config, rollouts=replace(rollouts, sampling=sampling))
    tokenizer = with_special(byte_level_tokenizer(), "<|stop|>")
    number = tokenizer.encode("<|stop|>", add_special_tokens=False)[-1]
    with pytest.raises(ValueError, match=rf"use stop_token_ids=\({number},\) instead"):
        check_special(config, tokenizer)
    check_special(config, byte_level_tokenizer())
