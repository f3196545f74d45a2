"""The logic recipe on the real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.run_kit import ROOT, records


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_iterations_with_exact_step_scores(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "rlstep.cli", "train", "recipes/logic_process_grpo.py"),
            *("--run-dir", str(tmp_path), "--name", "logic", "--iterations", "2"),
            *("--prompts-per-iteration", "16", "--evaluation.problems", "32"),
        ],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / "logic" / "summary.json").read_text())
    assert summary["complete"] and summary["iterations"] == 2
    trained = [r for r in records(tmp_path / "logic", "metrics.jsonl") if r.get("train/updates")]
    assert len(trained) == 2 and sum(row["train/skipped_updates"] for row in trained) == 0
    assert all(0.0 < row["rollout/step_score/oracle"] < 1.0 for row in trained)
