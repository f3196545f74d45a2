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
PROBLEMS = 960


def solutions() -> Iterator[tuple[str, list[str], list[str]]]:
    """Problems with a right solution and one whose answer is wrong."""
    rng = np.random.default_rng(0)
    task = replace(TASK, train=PROBLEMS, evaluation=0)
    for problem in task.load(arithmetic_tokenizer(), 64).train:
        right = worked_solution(problem, rng, sloppy=0.0)
        drawn = [worked_solution(problem, rng, sloppy=0.65) for _ in range(4)]
        if wrong := [steps for steps in drawn if steps[-1] != right[-1]]:
            yield problem.text.removesuffix("\n"), right, wrong[0]


def run(folder: Path, name: str, verb: str, monkeypatch: pytest.MonkeyPatch, **env: str) -> Path:
    monkeypatch.setenv("FITTED_PART", name)
    for key, value in env.items():
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
    critic = run(tmp_path, "critic", "train", monkeypatch, model=str(fitted / "export"))
    summary = json.loads((critic / "summary.json").read_text())
    assert summary["complete"] and summary["updates"] == 4 and summary["failures"] == 0
    first = next(row for row in records(critic, "metrics.jsonl") if "critic/loss" in row)
    # A new critic is 0 everywhere: the loss of its first update is half the share that is right.
    new = first["rollout/accuracy"] / 2
    print(f"loss of the first update {first['critic/loss']:.3f}, of a new critic {new:.3f}")
    assert first["critic/loss"] < 0.8 * new
