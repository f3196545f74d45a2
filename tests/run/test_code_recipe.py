"""The code recipe on this CPU: a tiny model, real problems, programs in the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlstep.scoring.programs.sandbox import probe
from tests.run.test_gpu_recipes import tiny_model

ROOT = Path(__file__).parents[2]
PROBLEMS = ROOT.parent / "shared" / "data" / "humaneval" / "HumanEval.jsonl.gz"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROBLEMS.exists(), reason=f"{PROBLEMS} is not here"),
    pytest.mark.skipif(probe().isolation is None, reason=f"no isolation: {probe()}"),
]

ARGUMENTS = f"""
    --task.path {PROBLEMS} --task.limit 20 --task.held-out 4
    --generator.dtype float32 --generator.transfer rlstep_gloo --generator.parity-tolerance 1e-3
    --generator.enforce-eager True --generator.kv-cache-mib 64 --generator.block-size 32
    --placement.generator-gpus 0 --placement.policy-gpus 0 --policy.model.dtype float32
    --rollouts.sampling.max-tokens 24 --rollouts.samples-per-prompt 2
    --scorer.processes 2 --scorer.deadline-s 60
    --prompts-per-iteration 4 --iterations 2 --evaluation.problems 4
""".split()


def test_two_iterations(tmp_path: Path):
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "rlstep.cli", "train", str(ROOT / "recipes" / "code_grpo.py")),
            *("--run-dir", str(tmp_path / "runs"), "--name", "tiny"),
            *("--policy.model.path", tiny_model(tmp_path / "model")),
            *ARGUMENTS,
        ],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    run = tmp_path / "runs" / "tiny"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["iterations"] == 2 and summary["complete"]
    # Random weights write no program that works, and every one was run all the same.
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(not value for r in records for name, value in r.items() if "failure" in name), (
        records
    )
