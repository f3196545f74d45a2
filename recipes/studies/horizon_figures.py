"""Tables and plots of `horizon.py`, of the lines that it keeps."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from studies.horizon_arms import ARMS, OUTCOME_ARMS, SAMPLED, TUNED

TUNING_SEED = 100


def share(digits: str) -> float:
    """Of right solutions, from how many of eight are right of each problem."""
    return sum(map(int, digits)) / (8 * len(digits))


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
    print("solutions without an error when sampled, %, with 95 % intervals (seeds); greedy answers")
    print("| arm | " + " | ".join(f"K = {k}" for k in horizons) + " |")
    print("|---" * (len(horizons) + 1) + "|")
    for arm in ARMS:
        cells = [_cell(rows, arm, horizon) for horizon in horizons]
        if any(cells):
            print(f"| {arm} | " + " | ".join(cells) + " |")
    print("\nbefore training: without an error when sampled / right answers when greedy")
    print("then the groups without signal in GRPO's runs, and seconds of training a run by arm")
    for horizon in horizons:
        here = [row for row in rows if row["horizon"] == horizon]
        signal = [row["without_signal"] for row in here if row["arm"] == "grpo"]
        took = {arm: [r["seconds"] for r in here if r["arm"] == arm] for arm in ARMS}
        print(
            f"K = {horizon:2}: {np.mean([share(r['start']) for r in here]):6.1%}"
            f" / {np.mean([r['greedy'][0] for r in here]):6.1%}"
            f"   {np.mean(signal) if signal else float('nan'):.0%}  ",
            ", ".join(f"{arm} {np.mean(times):.0f}" for arm, times in took.items() if times),
        )
    for arm in [arm for arm in ARMS if arm.endswith("_prm")]:
        for horizon in horizons:
            found = [r["auc"] for r in rows if (r["arm"], r["horizon"]) == (arm, horizon)]
            if found:
                means = np.nanmean(np.array(found, dtype=np.float64), axis=0)
                parts = ", ".join(f"{value:.2f}" for value in means[1:])
                print(f"AUC of {arm} at the end, K = {horizon:2}: {means[0]:.2f}; quarters {parts}")
    for horizon in horizons:
        show_differences(rows, horizon)


def _cell(rows: Sequence[dict[str, Any]], arm: str, horizon: int) -> str:
    found = accuracies(rows, arm, horizon)
    if not found:
        return ""
    mean, low, high = (100 * value for value in interval(list(found.values())))
    greedy = [r["greedy"][1] for r in rows if (r["arm"], r["horizon"]) == (arm, horizon)]
    return f"{mean:.1f} [{low:.1f}, {high:.1f}] ({len(found)}); {100 * np.mean(greedy):.0f}"


def show_differences(rows: Sequence[dict[str, Any]], horizon: int) -> None:
    """Of the arms with step labels from the best one that has only outcomes, sampled alike; paired
    by seed and problem."""
    alike = {arm: accuracies(rows, arm, horizon) for arm in OUTCOME_ARMS if arm not in SAMPLED}
    alike = {arm: found for arm, found in alike.items() if found}
    if not alike:
        return
    best = max(alike, key=lambda arm: float(np.mean(np.concatenate(list(alike[arm].values())))))
    for arm in ARMS:
        found, base = accuracies(rows, arm, horizon), alike[best]
        both = sorted(found.keys() & base.keys())
        if both and arm not in alike:
            mean, low, high = (100 * d for d in interval([found[s] - base[s] for s in both]))
            print(f"K = {horizon:2}: {arm} - {best}: {mean:+.1f} [{low:+.1f}, {high:+.1f}]")


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
    families = [*OUTCOME_ARMS, "located", "process", "full_step"]
    dashes = {"": "-", "prm": "-", "oracle": "--", "shuffled": ":"}
    return {"color": f"C{families.index(family or scores)}", "linestyle": dashes.get(scores, "-")}


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
