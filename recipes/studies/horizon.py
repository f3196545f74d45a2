"""Where do steps pay? Training on chains of 4 to 32 operations, by outcomes and by steps.

    python recipes/studies/horizon.py --out F [--horizons 16 32 --arms grpo dpo --seeds 5]
    python recipes/studies/horizon.py --out F --tune     the rates, on a seed that is not reported
    python recipes/studies/horizon.py --table            of the runs that are kept; nothing is run
    python recipes/studies/horizon.py --out F --quick --kept F/kept.jsonl         two small runs

At every horizon K all arms sample the same number of tokens for training, those for labels and
search included, and begin with the same policy. It errs in one of nine steps, wherever in the
chain, and its greedy completions hardly ever: a right solution becomes rare by the length alone.
One answer in 17 is right by luck, which a run cannot know; what is reported is the share of
solutions without a wrong step, by the exact oracle.
Every (arm, K, seed) is a run of its own on the real stack; one that is in horizon.jsonl, or
complete in `--out`, is not run again.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from modular_chain_base import TASK, modular_chain
from studies.horizon_arms import ARMS, CORE, SAMPLED, TUNED
from studies.horizon_figures import (
    TUNING_SEED,
    plot_horizons,
    plot_tokens,
    reported,
    show,
    tuning,
)
from studies.study_base import metric, summary

from rlstep.config import Config
from rlstep.measuring.metrics import roc_auc
from rlstep.types import Prompt

KEPT = Path(__file__).with_suffix(".jsonl")
"""One line a run: the table is made of it."""
RATES = (3e-4, 1e-4, 1e-3)
"""What `--tune` tries of every arm, on the tuning seed at K = 32."""
HORIZONS = (4, 8, 16, 32)
ROLLOUTS = 12 * 256
"""A run's budget, in rollouts of full length: so many times 4 K + 2 tokens."""


def config() -> Config:
    """One run; the environment variable STUDY_ARM says which: arm, horizon, rate, rollouts."""
    arm, horizon, rate, rollouts = os.environ["STUDY_ARM"].split()
    operations = int(horizon)
    sampled = SAMPLED[arm](operations) if arm in SAMPLED else {}
    made = modular_chain("horizon", operations, float(rate), **ARMS[arm], **sampled)
    return replace(made, iterations=1_000, train_tokens=int(rollouts) * (4 * operations + 2))


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str = ""
    """Folder of the runs; absolute."""
    horizons: tuple[int, ...] = HORIZONS
    arms: tuple[str, ...] = CORE
    seeds: int = 2
    """At each horizon, from 0 on."""
    tune: bool = False
    """Run every rate on the tuning seed at K = 32 instead."""
    rates: tuple[float, ...] = RATES
    table: bool = False
    """Run nothing."""
    quick: bool = False
    """Two arms at K = 4 with a twelfth of the budget: whether it runs, not what it finds."""
    minutes: float = 0.0
    """Start no run after so many; 0 sets no limit."""
    kept: str = str(KEPT)
    """File of one line a run, which grows."""

    @property
    def rollouts(self) -> int:
        return ROLLOUTS // 12 if self.quick else ROLLOUTS


def run(study: Study, arm: str, horizon: int, seed: int, rate: float) -> None:
    """One run, unless its line is there; the line is added."""
    name = f"{arm}-{horizon}-{seed}-{rate:g}"
    if any(row["run"] == name for row in read(study.kept)):
        return
    folder = Path(study.out) / name
    if summary(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)  # one that was cut off
        command = [sys.executable, "-m", "rlstep.cli", "train", __file__]
        command += ["--name", name, "--run-dir", study.out, "--seed", str(seed)]
        environment = {**os.environ, "STUDY_ARM": f"{arm} {horizon} {rate:g} {study.rollouts}"}
        subprocess.run(command, env=environment, check=True)
    row = {"run": name, "arm": arm, "horizon": horizon, "seed": seed, "rate": rate}
    with Path(study.kept).open("a") as file:
        file.write(json.dumps(row | result(folder)) + "\n")


def result(folder: Path) -> dict[str, Any]:
    """What is kept of a complete run."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row for row in rows if "eval/sampled/accuracy" in row]
    trained = [row for row in rows if "rollout/accuracy" in row]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    first, last = (
        [row for row in samples if row["iteration"] == evaluated[at]["iteration"]] for at in (0, -1)
    )
    return {
        "greedy": [round(row["eval/accuracy"], 4) for row in (evaluated[0], evaluated[-1])],
        "answers": [
            round(row["eval/sampled/accuracy"], 4) for row in (evaluated[0], evaluated[-1])
        ],
        "start": "".join(map(str, rights(first))),
        "right": "".join(map(str, rights(last))),
        "tokens": [row["rollout/sampled_total"] for row in trained],
        "while_training": [round(row["rollout/accuracy"], 4) for row in trained],
        "without_signal": round(float(np.mean(metric(folder, "rollout/without_signal"))), 3),
        "auc": prm_auc(last),
        "seconds": round(sum(metric(folder, "time/iteration"))),
    }


def rights(samples: Sequence[dict[str, Any]]) -> list[int]:
    """How many of the eight samples of each problem are right in every step, in order of the
    ids."""
    found: dict[str, int] = {}
    for row in samples:
        steps = row.get("text", "").splitlines(keepends=True)
        follows = TASK.follow(problem_of(row["prompt_id"]), steps)
        right = row.get("verdict") == "correct" and all(follows)
        found[row["prompt_id"]] = found.get(row["prompt_id"], 0) + right
    return [found[name] for name in sorted(found)]


def prm_auc(samples: Sequence[dict[str, Any]]) -> list[float | None]:
    """The PRM's ROC AUC against the exact oracle: of all steps, and of those in each quarter of the
    chain. None without a PRM, or without steps of both kinds."""
    columns = []
    for row in samples:
        scores = row.get("scores", {}).get("prm")
        if scores:
            steps = row["text"].splitlines(keepends=True)
            follows = TASK.follow(problem_of(row["prompt_id"]), steps)
            quarters = np.arange(len(scores)) * 4 // len(scores)
            columns.append(np.array([scores, follows, quarters], dtype=np.float64))
    if not columns:
        return [None] * 5
    score, right, quarter = np.concatenate(columns, axis=1)
    parts = [right >= 0, *(quarter == i for i in range(4))]
    return [
        round(roc_auc(score[part], right[part] > 0), 3) if 0 < right[part].mean() < 1 else None
        for part in parts
    ]


def problem_of(prompt_id: str) -> Prompt:
    return Prompt(
        prompt_id=prompt_id, token_ids=np.zeros(1, np.int32), text=prompt_id + "\n", answer=""
    )


def read(file: str) -> list[dict[str, Any]]:
    there = Path(file)
    return [json.loads(line) for line in there.read_text().splitlines()] if there.exists() else []


def main(study: Study) -> None:
    import time

    started = time.monotonic()
    if study.quick:
        study = replace(study, horizons=(4,), arms=("grpo", "located"), seeds=1)
    plan = [
        (arm, horizon, seed, TUNED[arm])
        for seed in range(study.seeds)
        for horizon in study.horizons
        for arm in study.arms
    ]
    if study.tune:
        plan = [(arm, 32, TUNING_SEED, rate) for rate in study.rates for arm in study.arms]
    for each in () if study.table else plan:
        if 0.0 < study.minutes <= (time.monotonic() - started) / 60:
            break
        run(study, *each)
    rows = read(study.kept)
    tuning(rows)
    if found := reported(rows):
        show(found)
        plot_horizons(found, Path(study.kept).with_suffix(".png"))
        plot_tokens(found, Path(study.kept).with_name("horizon_tokens.png"))
    print(f"{sum(row['seconds'] for row in rows) / 3600:.1f} hours of training in {len(rows)} runs")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
