"""Does a turn's own reward pay? The same rewards of the same games, as turns and as one sum.

    python recipes/studies/turn_credit.py --seeds 5 --out /data/turns [--json FILE]

In `trajectory` a game's rewards are added up before the loss sees them, and every guess of the
game is paid the sum; in `turns` a guess is paid what came from it on. Both are less the mean of the
other games on the same prompt, and differ in nothing else: policy, problems, samples, updates.
Every (arm, seed) is a run of its own; one that is complete in `--out` is not run again. The curve
is in `turn_credit.png` there.
"""

import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from guess_number_turns import guessing
from studies.study_base import metric, run_all, standard_error, summary

from rlstep.advantages.rloo import Rloo
from rlstep.advantages.step_sum import StepSum
from rlstep.config import Config, EvaluationConfig
from rlstep.interfaces import SampleBuilder

ARMS: dict[str, SampleBuilder] = {
    "trajectory": Rloo(source="return"),
    "turns": StepSum(source="environment", outcome_coefficient=0.0),
}


def config() -> Config:
    """One run; the environment variable STUDY_ARM says of which arm."""
    return guessing(
        "turn-credit",
        samples=ARMS[os.environ["STUDY_ARM"]],
        evaluation=EvaluationConfig(),
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str
    """Folder of the runs; absolute."""
    seeds: int = 5
    iterations: int = 16
    last: int = 4
    """Iterations at the end whose sampled games make the share that is won."""
    json: str = ""
    """Where to write the table as one object by arm."""


def table(study: Study) -> dict[str, dict[str, Any]]:
    """Games won of those that were sampled, over the last iterations and over all of them, each
    with its standard error over seeds; tokens of a run; and the share that is won by iteration."""
    rows: dict[str, dict[str, Any]] = {}
    for arm in ARMS:
        runs = [Path(study.out) / f"{arm}-{seed}" for seed in range(study.seeds)]
        curves = np.array([metric(run, "rollout/accuracy") for run in runs if summary(run)])
        ends, whole = curves[:, -study.last :].mean(axis=1), curves.mean(axis=1)
        tokens = [sum(metric(run, "rollout/tokens")) for run in runs if summary(run)]
        rows[arm] = {
            "seeds": len(curves),
            "won": float(ends.mean()),
            "standard_error": standard_error(ends),
            "while_training": float(whole.mean()),
            "while_training_standard_error": standard_error(whole),
            "tokens": statistics.mean(tokens),
            "curve": curves.mean(axis=0).tolist(),
            "curve_standard_error": [standard_error(column) for column in curves.T],
            "ends": ends.tolist(),
        }
    return rows


def difference(rows: dict[str, dict[str, Any]]) -> tuple[float, float]:
    """Of turns to the trajectory's sum, paired by seed, and its standard error."""
    differences = np.array(rows["turns"]["ends"]) - np.array(rows["trajectory"]["ends"])
    return float(differences.mean()), standard_error(differences)


def show(rows: dict[str, dict[str, Any]]) -> None:
    print(f"{'arm':12} {'seeds':>5} {'won at the end':>15} {'while training':>15} {'tokens':>8}")
    for arm, row in rows.items():
        print(
            f"{arm:12} {row['seeds']:5} {row['won']:7.1%} ± {row['standard_error']:5.1%}"
            f" {row['while_training']:7.1%} ± {row['while_training_standard_error']:5.1%}"
            f" {row['tokens']:8.0f}"
        )
    mean, error = difference(rows)
    print(f"turns - trajectory, paired by seed: {mean:+.1%} ± {error:.1%}")
    for arm, row in rows.items():
        print(f"{arm:12} " + " ".join(f"{100 * share:3.0f}" for share in row["curve"]))


def plot(rows: dict[str, dict[str, Any]], file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for arm, row in rows.items():
        means, errors = 100 * np.array(row["curve"]), 100 * np.array(row["curve_standard_error"])
        iterations = np.arange(1, len(means) + 1)
        [line] = axes.plot(iterations, means, label=arm)
        axes.fill_between(
            iterations, means - errors, means + errors, color=line.get_color(), alpha=0.2
        )
    axes.set(xlabel="iteration", ylabel="games won, % (± standard error)")
    axes.legend(loc="lower right")
    FigureCanvasAgg(figure).print_png(str(file))


def main(study: Study) -> None:
    run_all(__file__, study.out, list(ARMS), range(study.seeds), study.iterations)
    rows = table(study)
    show(rows)
    plot(rows, Path(study.out) / "turn_credit.png")
    if study.json:
        Path(study.json).write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
