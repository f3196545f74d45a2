"""What the studies share: every (arm, seed) is a run of its own on the real stack, in a process of
its own; one that is complete is not run again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def run_all(study: str, out: str, arms: Sequence[str], seeds: int, iterations: int) -> None:
    """Runs `<out>/<arm>-<seed>`; the study's `config` reads its arm from STUDY_ARM.

    Args:
        study: the study's file, which is a recipe.
        out: folder of the runs; absolute.
    """
    for seed in range(seeds):
        for arm in arms:
            run = Path(out) / f"{arm}-{seed}"
            if summary(run) is not None:
                continue
            shutil.rmtree(run, ignore_errors=True)  # one that was cut off
            command = [sys.executable, "-m", "rlstep.cli", "train", study]
            command += ["--name", run.name, "--run-dir", out, "--seed", str(seed)]
            command += ["--iterations", str(iterations)]
            subprocess.run(command, env={**os.environ, "STUDY_ARM": arm}, check=True)


def summary(run: Path) -> dict[str, Any] | None:
    """Of a complete run."""
    file = run / "summary.json"
    found = json.loads(file.read_text()) if file.exists() else {"complete": False}
    return found if found["complete"] else None


def metric(run: Path, name: str) -> list[float]:
    """Its value in every iteration that has it."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def standard_error(values: np.ndarray) -> float:
    """Of the mean; nan of a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
