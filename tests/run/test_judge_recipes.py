"""The recipes with judges on this CPU: a tiny model in every role, the judge's included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.run_kit import records
from tests.run.test_gpu_recipes import ROOT, SHARED, tiny_model
from tests.tasks.test_better_answer import solution_pairs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not here"),
]

CPU = """
    --generator.dtype float32 --generator.transfer rlstep_gloo --generator.parity-tolerance 1e-3
    --generator.enforce-eager True --generator.kv-cache-mib 64 --generator.block-size 32
    --generator.context 1536 --placement.generator-gpus 0 --placement.policy-gpus 0
    --policy.model.dtype float32 --policy.mini-batches 1
    --iterations 2 --task.limit 40 --rollouts.sampling.max-tokens 24 --evaluation.problems 4
""".split()


def run(folder: Path, recipe: str, *options: str) -> Path:
    """Two iterations; the run's directory."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "rlstep.cli", "train", str(ROOT / "recipes" / f"{recipe}.py")),
            *("--run-dir", str(folder / "runs"), "--name", "tiny"),
            *("--policy.model.path", tiny_model(folder / "model")),
            *CPU,
            *options,
        ],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((folder / "runs" / "tiny" / "summary.json").read_text())
    assert summary["iterations"] == 2 and summary["complete"]
    assert summary["max_parity_error"] <= 1e-3
    return folder / "runs" / "tiny"


def test_gsm8k_hybrid(tmp_path: Path) -> None:
    directory = run(
        tmp_path,
        "gsm8k_hybrid",
        *("--task.path", f"{SHARED}/gsm8k/train.jsonl", "--task.subset=", "--task.held-out", "4"),
        *("--prompts-per-iteration", "12", "--rollouts.samples-per-prompt", "2"),
        *("--judges.0.model.sampling.max-tokens", "16"),
        *("--judges.1.model.sampling.max-tokens", "16"),
    )
    for row in records(directory, "metrics.jsonl"):
        if "rollout/rollouts" not in row:
            continue
        # The verifier has a verdict on its share. Random weights never write one as a judge: every
        # other outcome is a failure of that name, and no score.
        unread = row["rollout/failures/unparsable_judgment"]
        assert 0 < unread < row["rollout/rollouts"] == 24
        assert row["rollout/problems"] == (24 - unread) / 2 and "rollout/votes" not in row


def test_judge_conj(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in solution_pairs(40)))
    directory = run(
        tmp_path,
        "judge_conj",
        *("--task.path", str(data), "--task.prompt-column", "prompt", "--task.held-out", "5"),
        *("--max-prompt-tokens", "1500", "--prompts-per-iteration", "4"),
        *("--rollouts.samples-per-prompt", "4"),
    )
    rows = [row for row in records(directory, "metrics.jsonl") if "rollout/rollouts" in row]
    # 4 prompts of 4 judgments and 2 hinted ones.
    assert [row["rollout/rollouts"] for row in rows] == [24, 24]
    assert all(row["rollout/unparsable"] == 1.0 for row in rows)
