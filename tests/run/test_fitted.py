"""What was fitted to data goes into a run: a reward model, and a critic that begins warm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer, worked_solution
from tests.run.run_kit import ROOT, finish, records, started

pytestmark = pytest.mark.slow

TASK = Arithmetic(operations=8, largest_operand=9, largest_factor=3, limit=20)  # the recipes'
PROBLEMS = 1500
POLICY = str(ROOT / "recipes" / "policies" / "arithmetic")


def solutions() -> Iterator[tuple[str, list[str], list[str]]]:
    """Problems with a right and a wrong solution, both written as the policy writes."""
    rng = np.random.default_rng(0)
    task = replace(TASK, train=PROBLEMS, evaluation=0)
    for problem in task.load(arithmetic_tokenizer(), 64).train:
        drawn = [worked_solution(problem, rng, sloppy=0.65) for _ in range(6)]
        both = [
            [steps for steps in drawn if (steps[-1] == f"#{problem.answer}") is right]
            for right in (True, False)
        ]
        if all(both):
            yield problem.text.removesuffix("\n"), both[0][0], both[1][0]


def run(folder: Path, name: str, verb: str, monkeypatch: pytest.MonkeyPatch, **env: str) -> Path:
    for key, value in {"part": name, **env}.items():
        monkeypatch.setenv(f"FITTED_{key.upper()}", value)
    recipe = ROOT / "tests" / "fitted_recipe.py"
    with started("", folder, "--name", name, verb=verb, recipe=recipe) as process:
        finish(process)
    return folder / name


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_reward_model_of_preferences_scores_whole_rollouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [
        {"prompt": problem, "chosen": "".join(right), "rejected": "".join(wrong)}
        for problem, right, wrong in solutions()
    ]
    data = written(tmp_path / "pairs.jsonl", rows)
    fitted = run(tmp_path, "preferred", "fit", monkeypatch, data=data)
    model = str(fitted / "export")
    rewarded = run(tmp_path, "rewarded", "train", monkeypatch, model=model)
    summary = json.loads((rewarded / "summary.json").read_text())
    assert summary["complete"] and summary["updates"] == 4 and summary["failures"] == 0
    told = [row for row in records(rewarded, "rollouts.jsonl") if "verdict" in row]
    scores = {
        right: [r["scores"]["reward_model"] for r in told if (r["verdict"] == "correct") is right]
        for right in (True, False)
    }
    pairs = [(a > b) + (a == b) / 2 for a in scores[True] for b in scores[False]]
    print(f"AUC of the reward model on the policy's rollouts: {np.mean(pairs):.3f}")
    assert len(told) == 512 and np.mean(pairs) > 0.6


def test_a_critic_begins_with_what_was_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [
        {
            "problem": problem,
            "steps": [s.removesuffix("\n") for s in steps],
            "labels": [value] * len(steps),
        }
        for problem, *both in solutions()
        for value, steps in zip((1.0, 0.0), both, strict=True)
    ]
    data = written(tmp_path / "judged.jsonl", rows)
    fitted = run(tmp_path, "valued", "fit", monkeypatch, data=data)
    losses = {}
    for name, model in (("warm", str(fitted / "export")), ("cold", POLICY)):
        critic = run(tmp_path, name, "train", monkeypatch, part="critic", model=model)
        summary = json.loads((critic / "summary.json").read_text())
        assert summary["complete"] and summary["updates"] == 4 and summary["failures"] == 0
        told = records(critic, "metrics.jsonl")
        losses[name] = next(row["critic/loss"] for row in told if "critic/loss" in row)
    print(f"the critic's loss in its first update: {losses}")
    assert losses["warm"] < 0.7 * losses["cold"]
