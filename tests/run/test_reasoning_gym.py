"""The reasoning-gym recipe on the real stack, from its shipped policy; it needs the extra."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.run.run_kit import ROOT, records

pytestmark = pytest.mark.slow
pytest.importorskip("reasoning_gym", reason="the extra rlstep[reasoning-gym] is absent")


def test_accuracy_rises_on_both_data_sets(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "rlstep.cli", "train", "recipes/reasoning_gym_grpo.py"),
            *("--run-dir", str(tmp_path), "--name", "gym"),
        ],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / "gym" / "summary.json").read_text())
    assert summary["complete"] and summary["iterations"] == 10 and summary["failures"] == 0
    right: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for row in records(tmp_path / "gym", "evaluations.jsonl"):
        dataset = row["prompt_id"].partition("/")[0]
        right[dataset, row["iteration"]].append(row["verdict"] == "correct")
    for dataset in ("chain_sum", "leg_counting"):
        before, after = right[dataset, 0], right[dataset, 10]
        # One standard error of a difference of two shares of 256 problems is at most 4.4 points.
        assert sum(after) / len(after) > sum(before) / len(before) + 0.1
