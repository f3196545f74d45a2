"""Runs beside each other, and where a model comes from: `rlstep runs`, and what a card says.

Everything is read from what runs left in their directories. What a run of an earlier version did
not write down is unknown, and is said to be.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rlstep.reporting.origins import name_of
from rlstep.reporting.recorded_run import RecordedRun, flat
from rlstep.reporting.run_directory import RunDirectory

State = Literal["complete", "stopped", "failed", "running", "not ended", "broken"]

FIGURES = ("accuracy", "pair_accuracy", "label_accuracy", "nll")
"""What says best how good a model is, of those that a run measured under 'eval/'."""
_OWN = frozenset({"name", "run_dir", "resume"})
"""Fields of a configuration in which any two runs differ."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measurement of a run on held-out problems."""

    name: str
    """One of FIGURES."""
    value: float
    """A share in [0, 1]; 'nll' is in nats a token."""
    error: float | None
    """Its standard error, where it was measured."""
    iteration: int
    problems: int | None = None

    def __str__(self) -> str:
        if self.name == "nll":
            return f"nll {self.value:.3f}"
        error = "" if self.error is None else f" ± {100 * self.error:.1f}"
        kind = "" if self.name == "accuracy" else f" ({self.name.replace('_', ' ')})"
        return f"{100 * self.value:.1f}{error} %{kind}"


def figures(run: RecordedRun, until: int | None = None) -> tuple[Figure, Figure] | None:
    """The first and the last measurement of a run, None where nothing was measured.

    Args:
        until: the last iteration that counts; all without it.
    """
    rows = [r for r in run.metrics if until is None or int(r["iteration"]) <= until]
    for name in FIGURES:
        if found := [row for row in rows if f"eval/{name}" in row]:
            first, last = (_figure(name, row) for row in (found[0], found[-1]))
            return first, last
    return None


def _figure(name: str, row: Mapping[str, Any]) -> Figure:
    error, problems = row.get("eval/accuracy_standard_error"), row.get("eval/problems")
    return Figure(
        name=name,
        value=float(row[f"eval/{name}"]),
        error=None if error is None or name != "accuracy" else float(error),
        iteration=int(row["iteration"]),
        problems=None if problems is None else int(problems),
    )


def iterations(run: RecordedRun, until: int | None = None) -> int:
    """Those that are done, of a run up to an iteration."""
    rows = (int(row["iteration"]) for row in run.metrics)
    return max((n for n in rows if until is None or n <= until), default=0)


def state(run: RecordedRun) -> State:
    """How a run stands: by its summary, and without one by who holds it."""
    if run.summary is None:
        return "running" if _held(run.directory) else "not ended"
    if run.summary.get("failed"):
        return "failed"
    return "complete" if run.summary.get("complete") else "stopped"


def _held(directory: RunDirectory) -> bool:
    """Whether a process has the run. Taken for an instant, and shared, which only a process that
    resumes it in this very instant could be refused for."""
    try:
        with (directory.path / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock was ever taken, or the file system has none
        return False
    return False


def started(run: RecordedRun) -> str:
    """When the run first started, in UTC; of an earlier version's when it last did."""
    if kept := run.versions.get("started"):
        return str(kept)
    seconds = run.directory.config.stat().st_mtime
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- list ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in `rlstep runs list`."""

    name: str
    when: str
    """UTC, to the minute; '-' of a broken run."""
    recipe: str
    """'unknown' of an earlier version's."""
    iterations: str
    """Done, of those that it will have."""
    before: str
    after: str
    state: State
    problem: str = ""
    """Of a broken run what is wrong with it."""


def rows(root: Path) -> list[Row]:
    """Every run below a root, the newest first, broken ones last."""
    found = [_row(RunDirectory(path.parent)) for path in root.glob("*/config.json")]
    found += [
        _broken(path.parent.name, "it was killed before it wrote its configuration")
        for path in root.glob("*/checkpoints")
        if path.is_dir() and not (path.parent / "config.json").exists()
    ]
    found.sort(key=lambda row: row.name)
    return sorted(found, key=lambda row: row.when if row.state != "broken" else "", reverse=True)


def _row(directory: RunDirectory) -> Row:
    try:
        run = RecordedRun.read(directory)
        measured = figures(run)
        asked = run.config.get("iterations")
        return Row(
            name=directory.name,
            when=started(run)[:16].replace("T", " "),
            recipe=str(run.versions.get("recipe") or "unknown"),
            iterations=f"{iterations(run)}/{'?' if asked is None else asked}",
            before=str(measured[0]) if measured else "-",
            after=str(measured[1]) if measured else "-",
            state=state(run),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return _broken(directory.name, (said or "").replace(f"{directory.path}/", ""))


def _broken(name: str, problem: str) -> Row:
    return Row(
        name=name,
        when="-",
        recipe="-",
        iterations="-",
        before="-",
        after="-",
        state="broken",
        problem=problem.partition("\n")[0],
    )


# --- diff ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Change:
    """A field in which two runs differ. '-' where one does not have it."""

    field: str
    first: str
    second: str


def differences(first: RecordedRun, second: RecordedRun) -> list[Change]:
    """Fields of two configurations that differ, by their dotted names; then models and data whose
    hashes do. Classes have their own names, files and folders the last part of their paths."""
    found = _changes(dict(flat(first.config)), dict(flat(second.config)))
    found += _changes(dict(_hashes(first)), dict(_hashes(second)))
    return found


def _changes(first: Mapping[str, str], second: Mapping[str, str]) -> list[Change]:
    names = [*first, *(name for name in second if name not in first)]
    return [
        Change(field=name, first=one, second=other)
        for name in names
        if name not in _OWN and first.get(name) != second.get(name)
        for one, other in [_told(first.get(name), second.get(name))]
    ]


def _told(first: str | None, second: str | None) -> tuple[str, str]:
    """Two values that differ, as they are shown."""
    one, other = ("-" if value is None else _shown(value) for value in (first, second))
    if one != other:
        return one, other
    if first is not None and first.startswith("/"):
        return one, f"{other} (of another folder)"
    return str(first), str(second)  # two classes of one name


def _shown(value: str) -> str:
    if value.startswith(("/", "~/")):
        return name_of(value)
    if value.startswith("["):
        return json.dumps([_shown(v) if isinstance(v, str) else v for v in json.loads(value)])
    parts = value.split(".")
    is_class = len(parts) > 1 and all(part.isidentifier() for part in parts)
    return parts[-1] if is_class and parts[-1][:1].isupper() else value


def _hashes(run: RecordedRun) -> Iterator[tuple[str, str]]:
    for field, entry in run.versions.get("models", {}).items():
        yield f"sha256 of {field}", str(entry.get("sha256", "unknown"))[:12]
    for split, entry in run.versions.get("data", {}).items():
        if isinstance(entry, Mapping) and "sha256" in entry:
            yield f"sha256 of data.{split}", str(entry["sha256"])[:12]


# --- lineage -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model that a run wrote, wherever it lies by now."""

    run: RecordedRun
    iteration: int
    versions: Mapping[str, int]
    """Of what was trained by then: weight syncs of the policy, updates of a PRM or a critic."""


def exported(runs: Sequence[RecordedRun]) -> dict[str, list[Exported]]:
    """Every model that the runs wrote, by its hash; the earliest run's first."""
    found: dict[str, list[Exported]] = {}
    for run in sorted(runs, key=started):
        for line in run.directory.models:
            made = Exported(run=run, iteration=int(line["iteration"]), versions=line["versions"])
            if all(made.run is not other.run for other in found.get(line["sha256"], ())):
                found.setdefault(line["sha256"], []).append(made)
    return found


def readable(root: Path) -> list[RecordedRun]:
    """The runs below a root that can be read."""
    found = []
    for path in sorted(root.glob("*/config.json")):
        try:
            run = RecordedRun.read(RunDirectory(path.parent))
            exported([run])
        except (ValueError, KeyError, TypeError, OSError):
            continue  # `rlstep runs list` has it, with what is wrong
        found.append(run)
    return found
