"""Every loss and every estimator trains on the real stack for 20 iterations without divergence."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlstep.commands.catalog import plugins
from tests.algorithm_recipe import ALGORITHMS, config
from tests.run.run_kit import ROOT, records

PAYS_FOR_STEPS = "step_sum"
"""A plain sum pays right filler even by exact scores: what it must show is longer chains, whatever
becomes of the accuracy."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_trains_without_divergence(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "rlstep.cli", "train", "tests/algorithm_recipe.py"),
            *("--run-dir", str(tmp_path), "--name", name, "--evaluation.problems", "128"),
        ],
        env={**os.environ, "ALGORITHM": name, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = records(tmp_path / name, "metrics.jsonl")
    trained = [row for row in rows if row.get("train/updates")]
    assert trained, "nothing was trained"
    assert all(math.isfinite(row["train/loss"]) for row in trained)
    assert sum(row["train/skipped_updates"] for row in trained) == 0
    summary = json.loads((tmp_path / name / "summary.json").read_text())
    assert summary["iterations"] == 20
    if name == PAYS_FOR_STEPS:
        first, *_, last = (row["rollout/steps_mean"] for row in trained)
        assert last > first + 1.0
    else:  # two standard errors of 128 problems at 60 %
        assert summary["eval_accuracy_end"] > summary["eval_accuracy_start"] - 0.09, summary


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_line_is_a_valid_run(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ALGORITHM", name)
    assert config().iterations == 20


OF_NO_POLICY = {"BradleyTerry"}
"""Losses of models that only score and are not trained in a run."""


def test_none_is_left_out() -> None:
    """Every loss of policies, pair builder and advantage estimator has its line."""

    def used(value: Any) -> set[str]:
        fields = getattr(value, "__dataclass_fields__", {})
        inner = [getattr(value, field) for field in fields] + list(
            value if isinstance(value, tuple) else ()
        )
        return {type(value).__name__}.union(*map(used, inner))

    lines = set().union(*(used(value) for row in ALGORITHMS.values() for value in row.values()))
    listed = {
        plugin.__name__ for room in ("losses", "pairs", "advantages") for plugin in plugins(room)
    }
    assert listed - lines == OF_NO_POLICY
