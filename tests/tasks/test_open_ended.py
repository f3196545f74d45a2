"""Rows with and without an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.judges.reference_judge import ReferenceJudge
from rlstep.scoring.judges.routing import check_routes
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.open_ended import OpenEnded
from tests.real_tokenizers import byte_level_tokenizer
from tests.scoring.judges.judge_kit import saying

ROWS = [
    {"prompt": "1+1?", "answer": 2, "scorer": "verifier"},
    {"prompt": "Why is the sky blue?", "answer": "Rayleigh scattering", "scorer": "judge"},
    {"prompt": "Write a haiku.", "answer": None, "scorer": "reference", "reference": "An old pond"},
    {"prompt": "Tell a story.", "scorer": "reference", "reference": "Once"},
    {"prompt": "Sing.", "answer": "", "scorer": "nobody"},
]


def load(folder: Path, rows: list[dict], kind: type[Jsonl] = OpenEnded):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return kind(path=str(path)).load(byte_level_tokenizer(), 64)


def test_answers_may_be_missing(tmp_path: Path):
    prompts = load(tmp_path, ROWS)
    assert [p.answer for p in prompts.train] == ["2", "Rayleigh scattering", "", "", ""]
    assert [p.meta["scorer"] for p in prompts.train][-2:] == ["reference", "nobody"]
    judges = [OutcomeJudge(model=saying()), ReferenceJudge(model=saying())]
    with pytest.raises(ValueError, match="has no reference answer, and none of the 2 judges"):
        check_routes(prompts, judges, AnswerLine())
    check_routes(load(tmp_path, ROWS[:-1]), judges, AnswerLine())
    with pytest.raises(ValueError, match="field 'answer'"):  # elsewhere an answer is a must
        load(tmp_path, ROWS, Jsonl)


def test_a_broken_answer_is_still_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="line 1, field 'answer'"):
        load(tmp_path, [{"prompt": "x", "answer": ["a"]}])
