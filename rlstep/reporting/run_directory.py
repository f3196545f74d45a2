"""Where a run keeps what it writes.

<root>/<name>/config.json      the resolved configuration, without secrets
              recipe.json      the recipe's own, before the command line changed it
              versions.json    Python, packages, git commit
              metrics.jsonl    one line an iteration
              rollouts.jsonl   one line a rollout, to be read by people
              evaluations.jsonl  one line a completion of an evaluation, as in rollouts.jsonl
              probe.jsonl      the frozen rollouts that measure the PRM
              checkpoints/     see rlstep/running/checkpoint.py
              export/          the trained model, at the run's end
              exports/         the model of earlier iterations: by cadence, or by `rlstep export`
              summary.json     the run in a few numbers
              accuracy.png
              log/             what each role's process printed, as it stands; see role_logs.py
              report.html      the run as a page, see page.py
              wandb/           wandb's own files
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from rlstep.reporting.files import JsonLines

LONGEST_NAME = 200
"""Bytes; file systems take 255, and some files add to it."""


@dataclass(frozen=True)
class RunDirectory:
    """Made by `create` or `reopen`, which check the name."""

    path: Path

    @classmethod
    def create(cls, root: Path | str, name: str) -> RunDirectory:
        """A new run. One of that name that failed before its first iteration is moved aside, to
        <name>-failed, with its logs.

        Raises:
            ValueError: the name is no plain file name, or is taken; says the nearest free one.
        """
        path = _inside(Path(root), name)
        if _failed_at_start(path):
            aside = path.with_name(free_name(Path(root), f"{name}-failed"))
            path.rename(aside)
            print(f"{path} failed before its first iteration; it is now {aside}", flush=True)
        check_new(Path(root), name)
        for folder in (path / "checkpoints", path / "export"):
            folder.mkdir(parents=True)
        return cls(path)

    @classmethod
    def reopen(cls, root: Path | str, name: str) -> RunDirectory:
        """An earlier run.

        Raises:
            ValueError: the name is no plain file name, or there is no such run.
        """
        path = _inside(Path(root), name)
        if not path.is_dir():
            raise ValueError(f"run name: there is no run {path} to resume")
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def versions(self) -> Path:
        return self.path / "versions.json"

    @property
    def metrics(self) -> JsonLines:
        return JsonLines(self.path / "metrics.jsonl")

    @property
    def rollouts(self) -> JsonLines:
        return JsonLines(self.path / "rollouts.jsonl")

    @property
    def evaluations(self) -> JsonLines:
        return JsonLines(self.path / "evaluations.jsonl")

    @property
    def probe(self) -> Path:
        return self.path / "probe.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        return self.path / "export"

    def export_of(self, iteration: int) -> Path:
        return self.path / "exports" / f"iteration-{iteration:06d}"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def accuracy_plot(self) -> Path:
        return self.path / "accuracy.png"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def truncate_after(self, iteration: int) -> None:
        """Cut back metrics, rollouts and evaluations to what there was at an iteration's end.

        Called when a run resumes from that iteration's checkpoint; the rest happens again.
        """
        self.metrics.truncate_after(iteration)
        self.rollouts.truncate_after(iteration)
        self.evaluations.truncate_after(iteration)


def default_root() -> Path:
    """Where runs live unless a configuration says so: RLSTEP_RUN_DIR, or else `runs` here.

    A submitted job's working directory is a temporary copy, so there it is the home's `runs`.

    Raises:
        ValueError: RLSTEP_RUN_DIR is not absolute.
    """
    chosen = os.environ.get("RLSTEP_RUN_DIR")
    if not chosen:
        base = Path.home() if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path.cwd()
        return base / "runs"
    root = Path(chosen).expanduser()
    if not root.is_absolute():
        raise ValueError(f"RLSTEP_RUN_DIR is {chosen!r}; it must be absolute, like /data/runs")
    return root


def free_name(root: Path, name: str) -> str:
    """The name itself, or else the first of <name>-2, <name>-3, ... that no run has."""
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(free for free in names if not (root / free).exists())


def check_new(root: Path, name: str) -> None:
    """Refuse a name that `RunDirectory.create` would refuse.

    Raises:
        ValueError: it is no plain file name, or is taken; says the nearest free one.
    """
    path = _inside(root, name)
    if path.exists() and not _failed_at_start(path):
        raise ValueError(
            f"run name: {path} exists; resume it with --resume True, or take another name:"
            f" --name {free_name(root, name)}"
        )


def check_no_run(path: str, root: Path) -> None:
    """Refuse a run's name, its folder or a checkpoint where a model's folder is asked for.

    Raises:
        ValueError: says what to give: the run's export, or how to get one.
    """
    given = Path(path) if Path(path).is_dir() else root / path
    if not given.is_dir() or not _no_model(given):
        return
    for run in (given, *given.absolute().parents[:3]):
        if not (run / "checkpoints").is_dir() or not (run / "config.json").is_file():
            continue
        exports = [run / "export", *sorted((run / "exports").glob("iteration-*"), reverse=True)]
        for export in exports:
            if not _no_model(export):
                raise ValueError(f"model.path {path!r} is no model; give its run's: {export}")
        raise ValueError(
            f"model.path {path!r} is no model, and its run has no export yet, which it writes when"
            f" it ends; make one of its newest checkpoint: rlstep export {run}"
        )


def _no_model(folder: Path) -> bool:
    return not any(folder.glob("*.safetensors"))


def _failed_at_start(path: Path) -> bool:
    """Its summary, which only an ended run has, says so. A run under way is never taken for one."""
    if not (path / "summary.json").is_file() or any((path / "checkpoints").glob("*")):
        return False
    summary = json.loads((path / "summary.json").read_text())
    return bool(summary["failed"]) and not summary["iterations"]


def find_run(run: str, root: Path) -> RunDirectory:
    """The run of a name under the root, or in a folder.

    Raises:
        ValueError: there is none, or what is there is no run; names the nearest.
    """
    there = ""
    for path in (root / run, Path(run).expanduser()) if run.strip() else ():
        if (path / "config.json").is_file():
            return RunDirectory(path)
        if path.exists() and not there:
            lacks = "it has no config.json" if path.is_dir() else "it is a file"
            there = f"{path} is no run: {lacks}"
    wrong = f"run {run!r}: {there or 'no such run or folder'}"
    runs = {p.parent.name: p.parent.stat().st_mtime for p in root.glob("*/config.json")}
    if not runs:
        raise ValueError(
            f"{wrong}, and {root} has none; give the run's folder, or set RLSTEP_RUN_DIR to where"
            " runs are kept"
        )
    newest = max(runs, key=lambda name: runs[name])
    near = difflib.get_close_matches(run, runs, 1) or [newest]
    raise ValueError(f"{wrong}; the nearest in {root} is {near[0]!r} (the newest is {newest!r})")


def check_run_name(name: str) -> None:
    """Refuse a name that is not one plain, printable file name.

    Raises:
        ValueError: naming what is wrong and a name that would do.
    """
    problems = {
        "it is empty": not name.strip(),
        "it holds a path separator": "/" in name or "\\" in name,
        "it holds '..'": ".." in name,
        "it starts with '.', '-' or '~'": name.startswith((".", "-", "~")),
        "it starts or ends with a space": name != name.strip(),
        "it holds a character that cannot be printed": not name.isprintable(),
        f"it is longer than {LONGEST_NAME} bytes": len(name.encode(errors="replace"))
        > LONGEST_NAME,
    }
    for problem in (text for text, found in problems.items() if found):
        plain = re.sub(r"[^A-Za-z0-9_.+=-]+|\.\.+", "-", name[:60]).strip("-.~ ") or "run-1"
        raise ValueError(f"run name {name[:60]!r}: {problem}; a valid name is {plain!r}")


def _inside(root: Path, name: str) -> Path:
    check_run_name(name)
    path = root / name
    if path.resolve().parent != root.resolve():
        raise ValueError(f"run name {name!r}: {path} is a link out of {root}; remove it")
    return path
