"""Where a run keeps what it writes.

<root>/<name>/config.json      the resolved configuration, without secrets
              recipe.json      the recipe's own, before the command line changed it
              versions.json    Python, packages, git commit; models and data by hash, see origins.py
              metrics.jsonl    one line an iteration
              rollouts.jsonl   one line a rollout, to be read by people
              evaluations.jsonl  one line a completion of an evaluation, as in rollouts.jsonl
              samples.jsonl    one line a sample of an evaluation that draws several of a problem
              eval.json        the last evaluation's figures, see evaluated.py; evaluation.png draws
                               them
              measurements.jsonl  what each iteration showed of its prompts, where a curriculum
                               chooses by it
              probe.jsonl      the frozen rollouts that measure the PRM
              checkpoints/     see rlstep/running/checkpoint.py
              models.jsonl     one line an export: its weights by hash, see card.py
              export/          the trained model, at the run's end
              exports/         the model of earlier iterations: by cadence, or by `rlstep export`;
                               that of the best evaluation; step models, by their source
              summary.json     the run in a few numbers
              accuracy.png
              log/             what each role's process printed, as it stands; see role_logs.py
              report.html      the run as a page, see page.py
              wandb/           wandb's own files
              lock             whose the run is, while it is under way
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import itertools
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rlstep.reporting.files import JsonLines, read_json

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
        check_root(Path(root))
        with _naming(Path(root)), _one_at_a_time(Path(root)):
            if _failed_at_start(path):
                aside = path.with_name(free_name(Path(root), f"{name}-failed"))
                path.rename(aside)
                print(f"{path} failed before its first iteration; it is now {aside}", flush=True)
            check_new(Path(root), name)
            for folder in (path, path / "checkpoints", path / "export"):
                folder.mkdir()
        return cls(path)

    @classmethod
    def reopen(cls, root: Path | str, name: str) -> RunDirectory:
        """An earlier run.

        Raises:
            ValueError: the name is no plain file name, or there is no such run; names the nearest.
        """
        path = _inside(Path(root), name)
        with _naming(Path(root)):
            if _is_run(path):
                return cls(path)
            runs = [found.name for found in Path(root).glob("*") if _is_run(found)]
        near = difflib.get_close_matches(name, runs, 1, 0.0)
        there = f"{path} is no run, and" if path.exists() else f"there is no run {path} to resume;"
        hint = f"the nearest is --name {near[0]}" if near else f"{root} has none"
        raise ValueError(f"run name: {there} {hint}")

    def hold(self) -> TextIO:
        """Take the run for this process, until the file that is returned is closed.

        On a file system without locks nobody is kept out.

        Raises:
            ValueError: it is under way in another process, or nothing may be written to it.
        """
        with _naming(self.path):
            file = (self.path / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read()
            file.close()
            raise ValueError(
                f"run name: {self.path} is under way, as process {holder}; wait for its end, stop"
                " it, or take another name with --name"
            ) from error
        except OSError:
            return file
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        return file

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
    def samples(self) -> JsonLines:
        return JsonLines(self.path / "samples.jsonl")

    @property
    def figures(self) -> Path:
        return self.path / "eval.json"

    @property
    def measurements(self) -> JsonLines:
        return JsonLines(self.path / "measurements.jsonl")

    @property
    def probe(self) -> Path:
        return self.path / "probe.jsonl"

    @property
    def models(self) -> JsonLines:
        return JsonLines(self.path / "models.jsonl")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def exports(self) -> Path:
        return self.path / "exports"

    def export_of(self, iteration: int) -> Path:
        return self.exports / f"iteration-{iteration:06d}"

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
        """Cut back metrics, rollouts, measurements and evaluations to what an iteration's end had.

        Called when a run resumes from that iteration's checkpoint; the rest happens again.
        """
        self.metrics.truncate_after(iteration)
        self.rollouts.truncate_after(iteration)
        self.measurements.truncate_after(iteration)
        # An evaluation follows the checkpoint: one that was not measured happens again.
        measured = iteration - (not self.evaluated(iteration))
        self.evaluations.truncate_after(measured)
        self.samples.truncate_after(measured)

    def evaluated(self, iteration: int) -> bool:
        """Whether the metrics have an evaluation of that iteration."""
        return any("time/evaluation" in row for row in self.metrics.of_iteration(iteration))


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
    with _naming(root):
        if path.exists() and not _failed_at_start(path):
            resumed = "resume it with --resume True, or " if _is_run(path) else ""
            raise ValueError(
                f"run name: {path} exists; {resumed}take another name:"
                f" --name {free_name(root, name)}"
            )


def check_root(root: Path) -> None:
    """Refuse a place where no run could be written.

    Raises:
        ValueError: a file is in the way, or nothing may be written there.
    """
    with _naming(root):
        there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", str(there))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "nothing may be written to it", str(there))


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """What the system refuses inside is a ValueError that names the place."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or place)
        raise ValueError(
            f"run_dir: {where[:100]!r}: {error.strerror}; choose another place with --run-dir or"
            " RLSTEP_RUN_DIR"
        ) from error


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Nobody else makes a run there meanwhile, where the file system has locks."""
    root.mkdir(parents=True, exist_ok=True)
    folder = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _is_run(path: Path) -> bool:
    """Whether it is a run, if only one that was killed before it wrote anything."""
    written = (path / "config.json").is_file() or (path / "export").is_dir()
    return written and (path / "checkpoints").is_dir()


def run_of(given: str, root: Path) -> RunDirectory | None:
    """The run of a name, of a folder, or of something within it, such as a checkpoint."""
    for place in (root / given, Path(given)) if given.strip() else ():
        for path in (place, *place.absolute().parents[:3]) if place.exists() else ():
            if _is_run(path):
                return RunDirectory(path)
    return None


def model_of(run: RunDirectory) -> str:
    """What to give for a run where a model's folder is asked for, or how to get one."""
    exports = [run.export, *sorted((run.path / "exports").glob("iteration-*"), reverse=True)]
    for export in exports:
        if not _no_model(export):
            return f"give its export: {export}"
    if any(run.checkpoints.glob("iteration-*")):
        return (
            "it has no export yet, which it writes when it ends; make one of its newest"
            f" checkpoint: rlstep export {run.path}"
        )
    return "it has neither an export nor a checkpoint yet"


def check_no_run(path: str, root: Path) -> None:
    """Refuse a run's name, its folder or a checkpoint where a model's folder is asked for.

    Raises:
        ValueError: says what to give: the run's export, or how to get one.
    """
    given = Path(path) if Path(path).is_dir() else root / path
    if given.is_dir() and _no_model(given) and (run := run_of(path, root)):
        raise ValueError(f"model.path {path!r} is no model but a run's; {model_of(run)}")


def _no_model(folder: Path) -> bool:
    return not any(folder.glob("*.safetensors"))


def _failed_at_start(path: Path) -> bool:
    """Its summary, which only an ended run has, says so. A run under way is never taken for one."""
    if not (path / "summary.json").is_file() or any((path / "checkpoints").glob("*")):
        return False
    summary = read_json(path / "summary.json")
    return bool(summary.get("failed")) and not summary.get("iterations")


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
