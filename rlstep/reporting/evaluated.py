"""An evaluation's figures: as eval.json, as a table, and as curves over the number of samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.measuring.metrics import Accuracy
from rlstep.measuring.sampled import ACCURACY, MAJORITY, PASS, Curves, Point
from rlstep.reporting.columns import table
from rlstep.reporting.files import read_json, write_json
from rlstep.reporting.run_directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOT = "evaluation.png"
_NAMES = {PASS: "pass@k", MAJORITY: "maj@k"}
_KINDS = {"best": "best-of-k", "vote": "weighted vote"}
_COLOURS = {"min": "C0", "product": "C1", "last": "C2", "mean": "C3", "whole": "C4"}


@dataclass(frozen=True, kw_only=True)
class SetFigures:
    """What one set of held-out problems shows."""

    name: str
    """'' of the task's own."""
    problems: int
    greedy: Accuracy | None
    """None without a single verdict."""
    curves: Curves
    """Of the samples; empty where none were drawn."""
    shots: float = 0.0
    """Solved problems that stood before each problem, the mean where not all had as many."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One evaluation."""

    iteration: int
    samples: int
    """Of each problem, beside the greedy completion."""
    sets: Sequence[SetFigures]
    metrics: Mapping[str, float]


def title(measure: str) -> str:
    """A measure in words: 'prm/best/min' is 'best-of-k, prm min'."""
    if measure in _NAMES:
        return _NAMES[measure]
    source, kind, aggregate = measure.rsplit("/", 2)
    return f"{_KINDS[kind]}, {source} {aggregate}"


def write_figures(directory: RunDirectory, measured: Measured, **more: Any) -> None:
    """eval.json in the place of that of the last evaluation, and with samples its picture.

    Args:
        more: further entries: the models that were there.

    Raises:
        DiskFull: there is no room.
    """
    sets = [asdict(each) for each in measured.sets]
    figures = {"iteration": measured.iteration, "samples": measured.samples, **more, "sets": sets}
    write_json(directory.figures, figures)
    if measured.samples:
        plot_curves(measured, directory.path / PLOT)


def is_evaluation(path: Path) -> bool:
    """Whether it is what `rlstep eval` makes: a run of no iterations."""
    written = path / "config.json"
    return written.is_file() and read_json(written).get("iterations") == 0


# --- the table -----------------------------------------------------------------------------------


def lines(measured: Measured) -> Iterator[str]:
    """What people read of an evaluation."""
    for each in measured.sets:
        which = f" of {each.name}" if each.name else ""
        shown = f", {each.shots:g} shots" if each.shots else ""
        drawn = f", {measured.samples} samples of each" if measured.samples else ""
        what = f"{each.problems} held-out problems{which}{shown}{drawn}"
        yield f"{what}; %, ± one standard error by problem"
        if each.greedy is not None:
            yield f"greedy {_percent(each.greedy.value, each.greedy.standard_error)}"
        if average := each.curves.get(ACCURACY):
            last = average[-1]
            yield f"avg@{measured.samples} {_percent(last.value, last.standard_error)}"
        yield from _by_k(each.curves)


def _by_k(found: Curves) -> Iterator[str]:
    shown = {name: points for name, points in found.items() if name != ACCURACY}
    ks = sorted({point.k for points in shown.values() for point in points})
    if not ks:
        return
    body = []
    for name, points in shown.items():
        at = {point.k: point for point in points}
        cells = (_percent(at[k].value, at[k].standard_error) if k in at else "-" for k in ks)
        body.append((title(name), *cells))
    yield from table(("k", *map(str, ks)), body)


def _percent(value: float, error: float | None) -> str:
    return f"{100 * value:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


# --- the picture ---------------------------------------------------------------------------------


def plot_curves(measured: Measured, path: Path) -> None:
    """Accuracy by the number of samples, one picture a set: the oracle above, majority below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [each for each in measured.sets if each.curves]
    figure = Figure(figsize=(7.5, 4.5 * len(drawn)), dpi=120, layout="constrained")
    every: Any = figure.subplots(len(drawn), 1, squeeze=False)
    for axes, each in zip(every[:, 0], drawn, strict=True):
        _draw(axes, each)
    FigureCanvasAgg(figure).print_png(str(path))


def _draw(axes: Axes, figures: SetFigures) -> None:
    from matplotlib.ticker import PercentFormatter

    if figures.greedy is not None:
        axes.axhline(figures.greedy.value, color="0.6", linewidth=1.0, label="greedy")
    for name, points in figures.curves.items():
        if name != ACCURACY and points:
            _line(axes, name, points)
    axes.set_xscale("log", base=2)
    ks = sorted({point.k for points in figures.curves.values() for point in points})
    axes.set_xticks(ks, [str(k) for k in ks])
    which = f" ({figures.name})" if figures.name else ""
    axes.set(
        xlabel="samples of each problem", ylabel=f"accuracy on {figures.problems} problems{which}"
    )
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)


def _line(axes: Axes, name: str, points: Sequence[Point]) -> None:
    styles = {PASS: ("k", ":"), MAJORITY: ("k", "-")}
    if name not in styles:
        _, kind, aggregate = name.rsplit("/", 2)
        styles[name] = _COLOURS[aggregate], "-" if kind == "best" else "--"
    colour, line = styles[name]
    axes.errorbar(
        [point.k for point in points],
        [point.value for point in points],
        [point.standard_error or 0.0 for point in points],
        color=colour,
        linestyle=line,
        linewidth=1.3,
        marker="o",
        markersize=3,
        capsize=2,
        label=title(name),
    )
