"""The logic recipes on the real stack: a policy is made, then trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.run_kit import ROOT, records

pytestmark = pytest.mark.slow


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_policy_is_made(tmp_path: Path) -> None:
    run(
        *("-m", "rlstep.cli", "sft", "recipes/logic_sft.py", "--run-dir", str(tmp_path)),
        *("--name", "policy", "--iterations", "1", "--updates-per-iteration", "4"),
        *("--examples.problems", "64", "--examples.batch", "16"),
    )
    policy = tmp_path / "policy" / "export"
    assert (policy / "model.safetensors").stat().st_size < 2_500_000
    summary = json.loads((tmp_path / "policy" / "summary.json").read_text())
    assert summary["complete"] and summary["updates"] == 4 and summary["eval/nll_end"] < 5.0


def test_exact_step_scores_raise_accuracy(tmp_path: Path) -> None:
    run(
        *("-m", "rlstep.cli", "train", "recipes/logic_process_grpo.py"),
        *("--run-dir", str(tmp_path), "--name", "logic"),
    )
    summary = json.loads((tmp_path / "logic" / "summary.json").read_text())
    assert summary["complete"] and summary["iterations"] == 12
    # 9 points were seen; one standard error of 512 problems is 2.
    assert summary["eval_accuracy_end"] >= summary["eval_accuracy_start"] + 0.04
    rows = [r for r in records(tmp_path / "logic", "metrics.jsonl") if "rollout/groups" in r]
    assert min(row["rollout/step_score/oracle"] for row in rows) > 0.15
