"""The recipes with judges on this CPU: a tiny model in every role, the judge's included."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.run.run_kit import make_policy, records
from tests.run.test_gpu_recipes import ROOT, SHARED, tiny_model
from tests.scoring.judges.openai_server import Asked, completion, response, serving
from tests.tasks.test_better_answer import solution_pairs

pytestmark = pytest.mark.slow
with_data = pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not here")

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
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((folder / "runs" / "tiny" / "summary.json").read_text())
    assert summary["iterations"] == 2 and summary["complete"]
    assert summary["max_parity_error"] <= 1e-3
    return folder / "runs" / "tiny"


@with_data
def test_gsm8k_hybrid(tmp_path: Path) -> None:
    directory = run(
        tmp_path,
        "gsm8k_hybrid",
        *("--task.path", f"{SHARED}/gsm8k/train.jsonl", "--task.subset=", "--task.held-out", "4"),
        *("--prompts-per-iteration", "12", "--rollouts.samples-per-prompt", "2"),
        *("--judges.0.model.sampling.max-tokens", "16"),
        *("--judges.1.model.sampling.max-tokens", "16"),
        *("--max-failed-scores", "1.0"),  # two of three problems are judged, by random weights
        *("--policy.reference", "initial"),  # one update an iteration: from 'iteration' a KL is 0
    )
    for row in records(directory, "metrics.jsonl"):
        if "rollout/rollouts" not in row:
            continue
        # The verifier has a verdict on its share. Random weights never write one as a judge: every
        # other outcome is a failure of that name, and no score.
        unread = row["rollout/failures/unparsable_judgment"]
        assert 0 < unread < row["rollout/rollouts"] == 24
        assert row["rollout/problems"] == (24 - unread) / 2 and "rollout/votes" not in row


@with_data
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


async def test_a_judge_behind_an_endpoint(tmp_path: Path) -> None:
    """Outcomes and step scores of a whole run come from an HTTP service that also has bad days."""
    said: Counter[str] = Counter()

    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        draw = asked.body["seed"] % 8
        if draw == 0 and not said["busy"]:
            said["busy"] += 1
            writer.write(response(503, b"busy"))
            return
        words = ("YES", "NO") if "<step-" in asked.text else ("CORRECT", "WRONG")
        word = "no idea" if draw == 7 else words[draw % 2]
        said[word] += 1
        writer.write(response(200, completion(f"Let me see.\nVerdict: {word}")))

    async with serving(respond) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rlstep.cli", "train", "tests/judged_recipe.py"),
            *("--run-dir", str(tmp_path), "--name", "judged"),
            env={
                **os.environ,
                "JUDGE_URL": server.url,
                "TINY_POLICY": make_policy(tmp_path / "model"),
                "WANDB_MODE": "offline",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-4000:]
    assert said["busy"] == 1 and min(said[w] for w in ("YES", "NO", "CORRECT", "WRONG")) > 0
    rows = records(tmp_path / "judged", "metrics.jsonl")
    trained = [row for row in rows if "rollout/rollouts" in row]
    assert len(trained) == 2 and all(row["train/updates"] == 1 for row in trained)
    for row in trained:
        decided = row["rollout/rollouts"] - row.get("rollout/failures", 0)
        assert row["rollout/votes"] == 3 * decided > 0
        assert 0.0 < row["rollout/accuracy"] < 1.0 and 0.0 < row["rollout/step_score/judge"] < 1.0
