"""However often a run is killed: no prompt is lost, and none is trained on twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.running.lives import PROMPTS, TRAINED

ROOT = Path(__file__).parents[2]


def lives(folder: Path, *asked: dict[str, Any]) -> list[int]:
    """Runs by as many lives as they take; how many of each were killed."""
    command = [sys.executable, "-m", "tests.running.lives", str(folder), json.dumps(asked)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line)["kills"] for line in done.stdout.splitlines() if line[:1] == "{"]


def remembered(run: Path) -> list[Any]:
    """What the learner of a run's last checkpoint was trained on, iteration by iteration."""
    newest = max((run / "checkpoints").glob("iteration-*"))
    return json.loads((newest / TRAINED).read_text())


def check_history(history: list[Any], iterations: int) -> None:
    """Written from the law alone: every iteration was trained on once, in order, with as many
    prompts as it has, and every prompt of the epoch was trained on in exactly one of them."""
    assert [number for number, _ in history] == list(range(iterations))
    batches = [{prompt for _, prompt, _ in made} for _, made in history]
    assert {len(batch) for batch in batches} == {PROMPTS}
    trained = Counter(prompt for batch in batches for prompt in batch)
    everything = {f"{i:04d}" for i in range(iterations * PROMPTS)}
    twice = [prompt for prompt, times in trained.items() if times > 1]
    assert (sorted(everything - set(trained)), twice) == ([], [])


def test_the_checker_can_fail() -> None:
    made = [[i, [[i, f"{4 * i + j:04d}", ""] for j in range(4)]] for i in range(3)]
    check_history(made, 3)
    lost = [made[0], made[1], [2, made[1][1]]]
    with pytest.raises(AssertionError):
        check_history(lost, 3)
    with pytest.raises(AssertionError):
        check_history(made[:2], 3)


def of_lags(kills: int, iterations: int, longest: int, seed: int = 0) -> list[dict[str, Any]]:
    """At lag 0 also without a kill; every other one saves every other iteration."""
    runs = [
        {"name": f"lag-{lag}", "lag": lag, "kills": kills, "every": 1 + (lag in (1, 4))}
        for lag in (0, 1, 2, 4)
    ]
    runs.append({"name": "whole", "lag": 0, "kills": 0, "every": 1})
    return [{**run, "iterations": iterations, "longest": longest, "seed": seed} for run in runs]


def check_lags(folder: Path, asked: list[dict[str, Any]]) -> None:
    killed = lives(folder, *asked)
    assert killed == [run["kills"] for run in asked]
    for run in asked:
        check_history(remembered(folder / run["name"]), run["iterations"])
    one, other = folder / "lag-0", folder / "whole"
    # Down to the texts, in the same order, and the metrics with the tokens that were sampled.
    assert remembered(one) == remembered(other)
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


def test_killed_at_every_lag(tmp_path: Path) -> None:
    check_lags(tmp_path, of_lags(kills=5, iterations=8, longest=40))


@pytest.mark.slow
def test_killed_20_times_at_every_lag(tmp_path: Path) -> None:
    check_lags(tmp_path, of_lags(kills=20, iterations=24, longest=40))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_killed_50_times_at_every_lag(tmp_path: Path, seed: int) -> None:
    check_lags(tmp_path, of_lags(kills=50, iterations=100, longest=60, seed=seed))
