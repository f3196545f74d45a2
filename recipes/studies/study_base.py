"""What the studies share: every (arm, seed) is a run of its own on the real stack, in a process of
its own; one that is complete is not run again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.interfaces import SampleBuilder
from rlstep.rollouts.requests import request_seed
from rlstep.types import Group, Rollout


def run_all(
    study: str, out: str, arms: Sequence[str], seeds: Iterable[int], iterations: int
) -> None:
    """Runs `<out>/<arm>-<seed>`; the study's `config` reads its arm from STUDY_ARM.

    Args:
        study: the study's file, which is a recipe.
        out: folder of the runs; absolute.
    """
    for seed in seeds:
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


@dataclass(frozen=True, kw_only=True)
class Shuffled(SampleBuilder):
    """Another builder's samples from step scores in another order within every chain: the control
    that keeps the numbers and takes away what they are about."""

    of: SampleBuilder
    source: str = "prm"

    @property
    def makes(self) -> type:  # type: ignore[override]
        return self.of.makes

    @property
    def sources(self) -> frozenset[str]:
        return self.of.sources

    def samples(self, groups: Sequence[Group]) -> Any:
        mixed = [replace(g, rollouts=tuple(map(self._shuffle, g.rollouts))) for g in groups]
        return self.of.samples(mixed)

    def _shuffle(self, rollout: Rollout) -> Rollout:
        scores = rollout.step_scores(self.source)
        if scores is None:
            return rollout
        rng = np.random.default_rng(request_seed(0, f"shuffled/{rollout.rollout_id}"))
        mixed = replace(scores, values=rng.permutation(scores.values))
        return rollout.with_scores(**{self.source: mixed})
