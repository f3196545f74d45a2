"""A run in a few numbers, and its accuracy as a picture, both read from the metrics it wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlstep.measuring.metrics import Record


def summarize(records: Iterable[Record]) -> dict[str, Any]:
    """The summary of a run from all of its records, None for what was never measured.

    Reading the records, and not counters in memory, makes it right for a resumed run too.
    """
    rows = list(records)
    accuracies = _column(rows, "eval/accuracy")
    problems, shots = _column(rows, "eval/problems"), _column(rows, "eval/shots")
    return {
        "iterations": int(max((row["iteration"] for row in rows), default=0)),
        "eval_accuracy_start": accuracies[0] if accuracies else None,
        "eval_accuracy_end": accuracies[-1] if accuracies else None,
        "eval_problems": int(problems[-1]) if problems else None,
        "eval_shots": shots[-1] if shots else None,
        "train_seconds": sum(_column(rows, "time/iteration")),
        "updates": int(sum(_column(rows, "train/updates"))),
        "without_signal": _mean(_column(rows, "rollout/without_signal")),
        "failures": int(sum(_column(rows, "rollout/failures"))),
        "prm_auc_end": (_column(rows, "prm/auc") or [None])[-1],
        "max_parity_error": max(_column(rows, "sync/parity_error"), default=None),
        "bottleneck": _bottleneck(rows),
    }


def _bottleneck(rows: Sequence[Record]) -> str | None:
    """Who had something to do for most of the iterations' time."""
    spent: dict[str, float] = {}
    timed = [row for row in rows if "time/iteration" in row]
    for row in timed:
        for name, share in row.items():
            if name.startswith("busy/"):
                role = name.removeprefix("busy/")
                spent[role] = spent.get(role, 0.0) + float(share) * float(row["time/iteration"])
    if not spent:
        return None
    busiest, whole = max(spent, key=spent.__getitem__), sum(_column(timed, "time/iteration"))
    return f"{busiest}, busy {spent[busiest] / whole:.0%} of the time"


def plot_accuracy(records: Iterable[Record], path: Path) -> None:
    """Draw the accuracy curve of a run: every evaluation, and the training rollouts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    rows = list(records)
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    x, y = _points(rows, "rollout/accuracy")
    axes.plot(x, y, color="0.65", linewidth=1.2, label="training rollouts")
    x, y = _points(rows, "eval/accuracy")
    errors = [float(r.get("eval/accuracy_standard_error", 0)) for r in rows if "eval/accuracy" in r]
    axes.errorbar(x, y, errors, color="C0", marker="o", capsize=3, label="evaluation (±1 s.e.)")
    axes.set(xlabel="iteration", ylabel="accuracy", ylim=(-0.02, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    FigureCanvasAgg(figure).print_png(str(path))


def _column(rows: Sequence[Record], name: str) -> list[float]:
    return [float(row[name]) for row in rows if name in row]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _points(rows: Sequence[Record], name: str) -> tuple[list[float], list[float]]:
    return [row["iteration"] for row in rows if name in row], _column(rows, name)
