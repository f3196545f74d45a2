"""Pictures of a run as SVG that takes its colours from the page around it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from rlstep.measuring.metrics import Record
from rlstep.reporting.panels import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = tuple[Sequence[float], Sequence[float]]
"""x and y, as long as each other."""

_INK, _GRID = "#000001", "#000002"
_SERIES = tuple(f"#0000a{i}" for i in range(1, 7))
_STYLES = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"), ("v", "-"), ("x", "--"))
"""Marker and line: series differ without their colours."""
_PAGE = {_INK: "currentColor", _GRID: "var(--grid)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(_SERIES, 1)
}
"""What the colours of a drawing stand for."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, and found
    "svg.hashsalt": "rlstep",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "legend.edgecolor": _GRID,
    "legend.framealpha": 0.0,
}


def points(rows: Sequence[Record], name: str) -> Series:
    """A metric over the iterations that have it, numbers that are not finite left out."""
    found = [(int(row["iteration"]), float(row[name])) for row in rows if name in row]
    kept = [(x, y) for x, y in found if abs(y) < float("inf")]
    return [x for x, _ in kept], [y for _, y in kept]


def draw_panel(panel: Panel, rows: Sequence[Record]) -> str | None:
    """The curves of a panel over the iterations as SVG, None where there is nothing to draw."""
    lines = {label: points(rows, name) for name, label in panel.lines.items()}
    lines = {label: line for label, line in lines.items() if line[0]}
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        if panel.stacked:
            _stack(axes, lines)
        else:
            _plot(axes, lines)
        _iterations(axes)
        if panel.unit == "%":
            from matplotlib.ticker import PercentFormatter

            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
        elif panel.unit:
            axes.set_ylabel("seconds")
        if panel.log and all(y > 0 for _, ys in lines.values() for y in ys):
            _logarithmic(axes)
        elif not panel.stacked:
            _from_zero(axes, shares=panel.unit == "%")

    return _svg(draw, panel.title)


def draw_reliability(curves: Mapping[str, Sequence[tuple[float, float, float]]]) -> str:
    """How often a score is right.

    Args:
        curves: by label, of each bin the mean score, the share of right ones, and their number.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_GRID, linewidth=1.2, label="calibrated")
        for number, (label, bins) in enumerate(curves.items()):
            marker, line = _STYLES[number]
            x, y, n = zip(*bins, strict=True)
            axes.plot(x, y, line, color=_SERIES[number], linewidth=1.4, label=label)
            sizes = [10 + 60 * count / max(n) for count in n]
            axes.scatter(x, y, s=sizes, marker=marker, color=_SERIES[number], linewidths=0)
        axes.set(xlabel="mean score", ylabel="share that is right", xlim=(-0.02, 1.02))
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="best", fontsize=8)

    return _svg(draw, "reliability")


def draw_by_position(curves: Mapping[str, Series], ylabel: str, chance: float | None = None) -> str:
    """Numbers by the step's position, counted from 1, by label.

    Args:
        chance: a line of what a scorer that cannot read would reach.
    """

    def draw(axes: Axes) -> None:
        if chance is not None:
            axes.axhline(chance, color=_GRID, linewidth=1.2)
        _plot(axes, curves)
        _iterations(axes)
        axes.set(xlabel="step", ylabel=ylabel)
        if all(0.0 <= value <= 1.0 for _, values in curves.values() for value in values):
            axes.set_ylim(-0.02, 1.02)

    return _svg(draw, ylabel)


def _plot(axes: Axes, lines: Mapping[str, Series]) -> None:
    for number, (label, (x, y)) in enumerate(lines.items()):
        marker, style = _STYLES[number % len(_STYLES)]
        axes.plot(
            *(x, y, style),
            marker=marker if len(x) <= 40 else None,
            markersize=4,
            linewidth=1.4,
            color=_SERIES[number % len(_SERIES)],
            label=label,
        )
    if len(lines) > 1:
        axes.legend(loc="best", fontsize=8)


def _stack(axes: Axes, lines: Mapping[str, Series]) -> None:
    """Bars on top of each other; an iteration without a part has none of it."""
    base: dict[float, float] = {}
    for number, (label, (x, y)) in enumerate(lines.items()):
        axes.bar(
            x,
            y,
            bottom=[base.get(at, 0.0) for at in x],
            width=0.8 if len(x) <= 60 else 1.0,
            color=_SERIES[number % len(_SERIES)],
            label=label,
        )
        base |= {at: base.get(at, 0.0) + value for at, value in zip(x, y, strict=True)}
    axes.set_ylim(0, 1.35 * max(base.values()) or 1.0)  # room for the legend
    axes.legend(loc="upper right", fontsize=8)


def _iterations(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _from_zero(axes: Axes, shares: bool) -> None:
    """Numbers that are never negative are seen from 0 on, so that noise does not look like a fall.

    Args:
        shares: they end at 1.
    """
    low, high = axes.dataLim.ymin, axes.dataLim.ymax
    if low >= 0.0:
        top = 1.05 * high or 1.0
        axes.set_ylim(0.0, min(top, 1.02) if shares else top)


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.0e}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _svg(draw: Any, name: str) -> str:
    """The drawing, its colours those of the page, its ids its own."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_SETTINGS):
        figure: Figure = Figure(figsize=(4.4, 2.7))
        figure.patch.set_alpha(0.0)
        axes = figure.subplots()
        figure.subplots_adjust(left=0.15, right=0.98, bottom=0.17, top=0.96)
        axes.patch.set_alpha(0.0)
        axes.grid(alpha=0.6, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        out = StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(out, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, meaning in _PAGE.items():
        svg = svg.replace(colour, meaning)
    prefix = re.sub(r"\W+", "-", name.lower())
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
