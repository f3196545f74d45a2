"""Where do steps pay? Training on chains of 4 to 64 operations, by outcomes and by steps.

    python recipes/studies/horizon.py --out F [--horizons 32 64 --arms grpo dpo --seeds 5]
    python recipes/studies/horizon.py --out F --tune     the rates, on a seed that is not reported
    python recipes/studies/horizon.py --table            of the runs that are kept; nothing is run

At every horizon K all arms sample the same number of tokens for training, those for labels and
search included, and begin with the same policy. It errs in one of eight steps, wherever in the
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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from modular_chain_base import HORIZONS, TASK, modular_chain, with_prm
from studies.study_base import metric, summary

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.mixture import Mixture
from rlstep.advantages.process import ProcessAdvantages
from rlstep.config import Config
from rlstep.interfaces import Labeller, RolloutContext, SampleBuilder
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dpo import Dpo
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.measuring.metrics import roc_auc
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.requests import request_seed
from rlstep.tasks.modular_chain import ModularChain
from rlstep.tensors.labels import CorrectOnly
from rlstep.types import Group, Prompt, Rollout, StepScores

KEPT = Path(__file__).with_suffix(".jsonl")
"""One line a run: the table is made of it."""
TUNING_SEED = 100
RATES = (1e-4, 3e-4, 1e-3)
"""What is tried of every arm, on the tuning seed at K = 32."""
ROLLOUTS = 24 * 256
"""A run's budget, in rollouts of full length: so many times 4 K + 2 tokens."""


@dataclass(frozen=True, kw_only=True)
class Following(Labeller):
    """The exact oracle of a step: 1 where it follows from the line before, else 0."""

    source: str = "oracle"
    task: ModularChain = TASK

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return [rollout.with_scores(oracle=self._scores(rollout)) for rollout in rollouts]

    def _scores(self, rollout: Rollout) -> StepScores:
        texts = [rollout.step_text(i) for i in range(len(rollout.steps))]
        follows = self.task.follow(rollout.prompt, texts)
        return StepScores(values=np.array(follows, dtype=np.float32), version=0)


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


def full_step(source: str) -> SampleBuilder:
    return OutcomePairs(step_source=source)


def process(source: str) -> SampleBuilder:
    """Outcomes as GRPO has them, and every step paid for itself.

    Scores as they are, not over their deviation: a PRM that knows nothing yet says the same of all
    steps, and pays nothing.
    """
    alone = ProcessAdvantages(source=source, gamma=0.0, std="none")
    return Mixture(process=alone, process_coefficient=2.0)


GRPO = Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0))
FULL_STEP = FullStepDpo(beta=0.1, gamma=2.0)
ORACLE = {"labellers": (Following(),)}
ARMS: dict[str, dict[str, Any]] = {
    "sft_correct": {"samples": CorrectOnly(), "loss": CrossEntropy()},
    "dpo": {"samples": OutcomePairs(), "loss": Dpo()},
    "grpo": {"samples": GroupAdvantages(), "loss": GRPO},
    "full_step_prm": {"samples": full_step("prm"), "loss": FULL_STEP, **with_prm()},
    "full_step_oracle": {"samples": full_step("oracle"), "loss": FULL_STEP, **ORACLE},
    "full_step_shuffled": {
        "samples": Shuffled(of=full_step("prm")),
        "loss": FULL_STEP,
        **with_prm(),
    },
    "process_prm": {"samples": process("prm"), "loss": GRPO, **with_prm()},
    "process_oracle": {"samples": process("oracle"), "loss": GRPO, **ORACLE},
    "process_shuffled": {"samples": Shuffled(of=process("prm")), "loss": GRPO, **with_prm()},
}
OUTCOME_ARMS = ("sft_correct", "dpo", "grpo")
TUNED = dict.fromkeys(ARMS, 3e-4)
"""The best of `RATES`; shuffled controls have the rate of the arm that they control."""


def config() -> Config:
    """One run; the environment variable STUDY_ARM says which: arm, horizon, rate."""
    arm, horizon, rate = os.environ["STUDY_ARM"].split()
    operations = int(horizon)
    made = modular_chain("horizon", operations, float(rate), **ARMS[arm])
    return replace(made, iterations=1_000, train_tokens=ROLLOUTS * (4 * operations + 2))


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str = ""
    """Folder of the runs; absolute."""
    horizons: tuple[int, ...] = HORIZONS
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: int = 2
    """At each horizon, from 0 on."""
    tune: bool = False
    """Run every rate on the tuning seed at K = 32 instead."""
    table: bool = False
    """Run nothing."""
    minutes: float = 0.0
    """Start no run after so many; 0 sets no limit."""
    kept: str = str(KEPT)
    """File of one line a run, which grows."""


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
        environment = {**os.environ, "STUDY_ARM": f"{arm} {horizon} {rate:g}"}
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


def share(digits: str) -> float:
    """Of right solutions, from how many of eight are right of each problem."""
    return sum(map(int, digits)) / (8 * len(digits))


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


# --- tables --------------------------------------------------------------------------------------


def reported(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in rows if r["seed"] != TUNING_SEED and r["rate"] == TUNED[r["arm"]]]


def accuracies(rows: Sequence[dict[str, Any]], arm: str, horizon: int) -> dict[int, np.ndarray]:
    """By seed float64 [problems]: the share of right solutions of each problem at the end."""
    return {
        row["seed"]: np.array([int(digit) for digit in row["right"]]) / 8
        for row in rows
        if (row["arm"], row["horizon"]) == (arm, horizon)
    }


def interval(differences: Sequence[np.ndarray], draws: int = 2_000) -> tuple[float, float, float]:
    """Mean and 95 % interval, by a bootstrap over seeds and, of each, over problems.

    Args:
        differences: by seed float64 [problems], or accuracies.
    """
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        seeds = rng.integers(len(differences), size=len(differences))
        found.append(np.mean([rng.choice(differences[s], len(differences[s])) for s in seeds]))
    low, high = np.percentile(found, (2.5, 97.5))
    return float(np.mean(np.concatenate(differences))), float(low), float(high)


def show(rows: Sequence[dict[str, Any]]) -> None:
    horizons = sorted({row["horizon"] for row in rows})
    print("| arm | " + " | ".join(f"K = {k}" for k in horizons) + " |")
    print("|---" * (len(horizons) + 1) + "|")
    for arm in ARMS:
        cells = []
        for horizon in horizons:
            found = list(accuracies(rows, arm, horizon).values())
            if not found:
                cells.append("")
                continue
            mean, low, high = (100 * value for value in interval(found))
            cells.append(f"{mean:.1f} [{low:.1f}, {high:.1f}] ({len(found)})")
        print(f"| {arm} | " + " | ".join(cells) + " |")
    print("\nbefore training: without an error when sampled / right answers when greedy")
    print("then the groups without signal in GRPO's runs, and seconds of training a run")
    for horizon in horizons:
        here = [row for row in rows if row["horizon"] == horizon]
        signal = [row["without_signal"] for row in here if row["arm"] == "grpo"]
        print(
            f"K = {horizon:2}: {np.mean([share(r['start']) for r in here]):6.1%}"
            f" / {np.mean([r['greedy'][0] for r in here]):6.1%}"
            f"   {np.mean(signal) if signal else float('nan'):.0%}"
            f"   {np.mean([r['seconds'] for r in here]):.0f}"
        )


def plot_horizons(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Accuracy against K, one line an arm."""
    figure, (axes,) = canvas(1)
    for arm in ARMS:
        points = [
            (horizon, *interval(list(found.values())))
            for horizon in sorted({row["horizon"] for row in rows})
            if (found := accuracies(rows, arm, horizon))
        ]
        if points:
            k, mean, low, high = np.array(points).T
            errors = 100 * np.array([mean - low, high - mean])
            axes.errorbar(k, 100 * mean, errors, label=arm, capsize=2, **style(arm))
    starts = {row["horizon"]: 100 * share(row["start"]) for row in rows}
    axes.plot(sorted(starts), [starts[k] for k in sorted(starts)], ":", color="0.6", label="start")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="operations of a chain, K", ylabel="sampled solutions without an error, %")
    axes.set_xticks(sorted(starts), [str(k) for k in sorted(starts)])
    save(figure, file)


def plot_tokens(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Right answers while training, lucky ones too, against sampled tokens, at the two longest
    horizons."""
    horizons = sorted({row["horizon"] for row in rows})[-2:]
    figure, every = canvas(len(horizons))
    for axes, horizon in zip(every, horizons, strict=True):
        for arm in ARMS:
            runs = [r for r in rows if (r["arm"], r["horizon"]) == (arm, horizon)]
            if runs:
                at = np.linspace(0, min(run["tokens"][-1] for run in runs), 50)
                curves = [np.interp(at, run["tokens"], run["while_training"]) for run in runs]
                axes.plot(at / 1000, 100 * np.mean(curves, axis=0), label=arm, **style(arm))
        axes.set(title=f"K = {horizon}", xlabel="thousand sampled tokens, labels included")
        axes.set_ylabel("rollouts with the right answer, %")
    save(figure, file)


def style(arm: str) -> dict[str, Any]:
    """A family has one colour, its scores one dash."""
    family, _, scores = arm.rpartition("_") if arm not in OUTCOME_ARMS else (arm, "", "")
    families = [*OUTCOME_ARMS, "full_step", "process"]
    dashes = {"": "-", "prm": "-", "oracle": "--", "shuffled": ":"}
    return {"color": f"C{families.index(family)}", "linestyle": dashes[scores]}


def canvas(panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * panels, 4), dpi=110, layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def save(figure: Any, file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.axes[0].legend(fontsize="small")
    FigureCanvasAgg(figure).print_png(str(file))


def tuning(rows: Sequence[dict[str, Any]]) -> None:
    for arm in ARMS:
        tried = {r["rate"]: share(r["right"]) for r in rows
                 if r["arm"] == arm and r["seed"] == TUNING_SEED}  # fmt: skip
        if tried:
            print(
                f"{arm:20} " + "  ".join(f"{rate:g}: {tried[rate]:.1%}" for rate in sorted(tried))
            )


def main(study: Study) -> None:
    import time

    started = time.monotonic()
    plan = [
        (arm, horizon, seed, TUNED[arm])
        for seed in range(study.seeds)
        for horizon in study.horizons
        for arm in study.arms
    ]
    if study.tune:
        plan = [(arm, 32, TUNING_SEED, rate) for arm in study.arms for rate in RATES]
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
