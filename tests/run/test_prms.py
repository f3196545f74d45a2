"""A whole run with PRMs of another vocabulary: trained at tags, and frozen on a pooling engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.actors.learner.prm_kit import math_shepherd
from tests.run.run_kit import ROOT, make_policy, records


@pytest.mark.slow
def test_two_prms_of_another_vocabulary(tmp_path: Path) -> None:
    for name in ("policy", "prm"):
        (tmp_path / name).mkdir()
    environment = {
        **os.environ,
        "TINY_POLICY": make_policy(tmp_path / "policy"),
        "TINY_PRM": math_shepherd(tmp_path / "prm", pad=True),
        "WANDB_MODE": "offline",
        "PYTHONPATH": str(ROOT),
    }

    def train(*arguments: str) -> None:
        command = [sys.executable, "-m", "rlstep.cli", "train", "tests/prm_recipe.py", *arguments]
        done = subprocess.run(
            [*command, "--run-dir", str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    train("--iterations", "2")
    train("--iterations", "4", "--resume", "True")
    rows = [r for r in records(tmp_path / "prms", "metrics.jsonl") if "time/iteration" in r]
    assert [row.get("prm/updates", 0.0) for row in rows] == [0.0, 1.0, 0.0, 1.0]
    assert not any(name.startswith("shepherd/updates") for row in rows for name in row)
    kept = records(tmp_path / "prms", "rollouts.jsonl")
    scores = [step["scores"] for row in kept for step in row["steps"]]
    assert scores and all(0.0 <= s["prm"] <= 1.0 and 0.0 <= s["shepherd"] <= 1.0 for s in scores)
    assert any(s["prm"] != s["shepherd"] for s in scores)  # they read other layouts
    folder = tmp_path / "prms" / "checkpoints" / "iteration-000004"
    state = json.loads((folder / "state.json").read_text())
    assert state["versions"]["prm"] == 2 and state["versions"]["shepherd"] == 0
    assert (folder / "prm").is_dir() and not (folder / "shepherd").exists()
