"""References from the rollouts of an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlstep.reporting.files import JsonLines
from rlstep.reporting.rows import rollout_rows
from rlstep.tasks.best_of_n import best_of_n
from rlstep.tasks.open_ended import OpenEnded
from rlstep.types import Failure, Group, Prompt, Rollout, RolloutScore
from tests.builders import make_prompt, make_rollout
from tests.real_tokenizers import byte_level_tokenizer


def sampled(name: str, steps: list[float], prompt: Prompt, **fields) -> Rollout:
    """Step k of 'a' is 'a'; its text tells which rollout it is of."""
    ids = [[10 + k] for k in range(len(steps))]
    return make_rollout(name, ids, prompt=prompt, scores={"prm": steps}, **fields)


def written(folder: Path, *groups: Group) -> Path:
    file = folder / "rollouts.jsonl"
    JsonLines(file).append(*rollout_rows(1, groups))
    return file


def text(rollout: Rollout) -> str:
    return rollout.completion.text


def test_the_best_by_its_steps(tmp_path: Path):
    p, q = make_prompt("p"), make_prompt("q")
    rollouts = [
        sampled("p/0", [0.9, 0.2], p),
        sampled("p/1", [0.5, 0.5, 0.5], p),  # the best by the lowest step
        sampled("p/2", [0.1], p).with_scores(prm=Failure(reason="not_finite")),
        sampled("p/3", [1.0], p, versions=[(3, 0, 1)]),  # a later policy's
    ]
    group = Group(prompt=p, rollouts=tuple(rollouts), failures=(Failure(reason="timeout"),))
    one, other = sampled("q/0", [0.4] * 4, q), sampled("q/1", [0.4], q)
    file = written(tmp_path, group, Group(prompt=q, rollouts=(one, other)))
    assert best_of_n(str(file), "prm", "min") == {"p": text(rollouts[1]), "q": text(one)}
    assert best_of_n(str(file), "prm", "mean")["p"] == text(rollouts[0])


def test_a_score_of_whole_rollouts(tmp_path: Path):
    p = make_prompt("p")
    rollouts = [
        sampled(f"p/{n}", [0.5] * (n + 1), p).with_scores(reward=RolloutScore(value=value))
        for n, value in enumerate((-1.0, 0.0, -2.0))
    ]
    file = written(tmp_path, Group(prompt=p, rollouts=tuple(rollouts)))
    assert best_of_n(str(file), "reward", "min") == {"p": text(rollouts[1])}


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"rollouts\.jsonl: no such file"):
        best_of_n(str(tmp_path / "rollouts.jsonl"), "prm", "min")
    p = make_prompt("p")
    file = written(tmp_path, Group(prompt=p, rollouts=(sampled("p/0", [0.5], p),)))
    with pytest.raises(ValueError, match=r"references_by is 'judge'.* they have \['prm'\]"):
        best_of_n(str(file), "judge", "min")


def test_rows_without_a_reference_take_it(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": "Sing.", "scorer": "reference", "reference": None},
        {"prompt": "Tell a story.", "scorer": "reference", "reference": "Once"},
        {"prompt": "Dance.", "scorer": "reference"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = OpenEnded(path=str(path))
    plain = task.load(byte_level_tokenizer(), 64).train
    groups = [Group(prompt=p, rollouts=(sampled(f"{p.prompt_id}/0", [0.5], p),)) for p in plain[:2]]
    file = written(tmp_path, *groups)
    task = OpenEnded(path=str(path), references=str(file))
    prompts = task.load(byte_level_tokenizer(), 64).train
    assert [p.meta.get("reference") for p in prompts] == [
        text(groups[0].rollouts[0]),
        "Once",
        None,
    ]
