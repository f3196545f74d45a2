"""Does crediting steps pay? Eleven arms at equal updates and base samples on the arithmetic task.

    python recipes/studies/credit_assignment.py --seeds 5 --out /data/study [--json FILE]

Every (arm, seed) is a run of its own on the real stack, in a process of its own; one that is
complete in `--out` is not run again. All arms of a seed see the same problems in the same order and
are evaluated on the same held-out ones, so differences are paired by seed.
"""

import json
import os
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from arithmetic_base import SAMPLING, TASK, arithmetic, with_prm
from studies.study_base import Shuffled, metric, run_all, standard_error, summary

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.process import ProcessAdvantages
from rlstep.advantages.pure import Pure
from rlstep.config import Config, EvaluationConfig
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dpo import Dpo
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.ppo import Ppo
from rlstep.losses.step_dpo import StepDpo
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.pairs.longest_correct import LongestCorrectPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.first_error_search import FirstErrorSearch
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.rectify import Rectify
from rlstep.rollouts.stopping import BetaStopping
from rlstep.scoring.rewards.oracle_steps import OracleSteps
from rlstep.tensors.labels import CorrectOnly

HARDER = replace(TASK, limit=22)
"""Larger numbers than the policy was trained on: it solves 30 % of these problems at the start."""
SAMPLED = Independent(samples_per_prompt=8, sampling=SAMPLING)
LOW = 0.2
"""Step-DPO: from a wrong step on fewer continuations than this succeed. Right steps of so weak a
policy are far under a half, too."""


def full_step(gamma: float = 2.0) -> FullStepDpo:
    return FullStepDpo(beta=0.1, gamma=gamma)


ARMS: dict[str, dict[str, Any]] = {
    "sft_correct": {"samples": CorrectOnly(), "loss": CrossEntropy()},
    "dpo_vp": {"samples": LongestCorrectPairs(), "loss": Dpo()},
    "dpo": {"samples": OutcomePairs(), "loss": Dpo()},
    "step_dpo": {
        "samples": FirstErrorPairs(source="monte_carlo", threshold=LOW),
        "loss": StepDpo(),
        "rollouts": Rectify(
            base=SAMPLED,
            source="monte_carlo",
            monte_carlo=FirstErrorSearch(stopping=BetaStopping(threshold=LOW, limit=6)),
            threshold=LOW,
            max_errors=1,  # of each problem: the search takes most of the run as it is
        ),
    },
    "full_step_prm": {
        "samples": OutcomePairs(step_source="prm"),
        "loss": full_step(),
        **with_prm(),
    },
    "full_step_oracle": {
        "samples": OutcomePairs(step_source="oracle"),
        "loss": full_step(),
        "labellers": (OracleSteps(task=HARDER),),
    },
    "full_step_shuffled": {
        "samples": Shuffled(of=OutcomePairs(step_source="prm")),
        "loss": full_step(),
        **with_prm(),
    },
    "full_step_gamma_0": {
        "samples": OutcomePairs(step_source="prm"),
        "loss": full_step(0.0),
        **with_prm(),
    },
    "grpo": {"samples": GroupAdvantages(), "loss": Ppo()},
    "grpo_process": {"samples": ProcessAdvantages(), "loss": Ppo(), **with_prm()},
    "pure": {"samples": Pure(), "loss": Ppo(), **with_prm()},
}


def config() -> Config:
    """One run; the environment variable STUDY_ARM says of which arm."""
    fields = ARMS[os.environ["STUDY_ARM"]]
    return arithmetic(
        "credit-assignment",
        task=HARDER,
        evaluation=EvaluationConfig(),
        **{"rollouts": SAMPLED, **fields},
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str
    """Folder of the runs; absolute."""
    seeds: int = 5
    iterations: int = 8
    arms: tuple[str, ...] = tuple(ARMS)
    json: str = ""
    """Where to write the table as one object by arm."""


def table(study: Study) -> dict[str, dict[str, float]]:
    """Mean accuracy at the end and while training, each with its standard error over seeds, and the
    paired difference of the first to outcome DPO's with its own."""
    ends = {}
    rows: dict[str, dict[str, float]] = {}
    for arm in study.arms:
        runs = [Path(study.out) / f"{arm}-{seed}" for seed in range(study.seeds)]
        done = [found for run in runs if (found := summary(run)) is not None]
        sampled = np.array([statistics.mean(metric(run, "rollout/accuracy")) for run in runs])
        ends[arm] = np.array([one["eval_accuracy_end"] for one in done])
        rows[arm] = {
            "seeds": len(done),
            "start": statistics.mean(one["eval_accuracy_start"] for one in done),
            "accuracy": float(ends[arm].mean()),
            "standard_error": standard_error(ends[arm]),
            "while_training": float(sampled.mean()),
            "while_training_standard_error": standard_error(sampled),
            "train_seconds": statistics.mean(one["train_seconds"] for one in done),
        }
    for arm in study.arms if "dpo" in ends else ():
        difference = ends[arm] - ends["dpo"]
        rows[arm]["over_dpo"] = float(difference.mean())
        rows[arm]["over_dpo_standard_error"] = standard_error(difference)
    return rows


def show(rows: dict[str, dict[str, float]]) -> None:
    print(
        f"{'arm':20} {'seeds':>5} {'start':>6} {'accuracy':>15} {'over DPO':>15}"
        f" {'while training':>15} {'seconds':>8}"
    )
    for arm, row in rows.items():
        over = row.get("over_dpo", float("nan")), row.get("over_dpo_standard_error", float("nan"))
        print(
            f"{arm:20} {row['seeds']:5.0f} {row['start']:6.1%}"
            f" {row['accuracy']:7.1%} ± {row['standard_error']:5.1%}"
            f" {over[0]:+7.1%} ± {over[1]:5.1%} {row['while_training']:7.1%}"
            f" ± {row['while_training_standard_error']:5.1%} {row['train_seconds']:8.0f}"
        )


def plot(rows: dict[str, dict[str, float]], file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    means = [100 * row["accuracy"] for row in rows.values()]
    errors = [100 * row["standard_error"] for row in rows.values()]
    axes.barh(list(rows), means, xerr=errors, color="0.75", ecolor="C0", capsize=3)
    start = statistics.mean(row["start"] for row in rows.values())
    axes.axvline(100 * start, color="C3", linewidth=1, label="before training")
    axes.invert_yaxis()
    axes.set(xlabel="held-out accuracy, % (± one standard error over seeds)", xlim=(0, 100))
    axes.legend(loc="lower right")
    FigureCanvasAgg(figure).print_png(str(file))


def main(study: Study) -> None:
    run_all(__file__, study.out, study.arms, range(study.seeds), study.iterations)
    rows = table(study)
    show(rows)
    plot(rows, Path(study.out) / "credit_assignment.png")
    if study.json:
        Path(study.json).write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
