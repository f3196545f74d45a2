"""A real offline wandb run, read back with wandb's own reader."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rlstep.interfaces import RunStart
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.rows import STEP_COLUMNS, step_rows
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.console import Console
from rlstep.reporting.sinks.files import Files
from rlstep.reporting.sinks.wandb import Wandb, wandb_mode
from rlstep.types import Failure, Group
from tests.builders import make_rollout
from tests.reporting.secret_shapes import BY_NAME, BY_SHAPE, FILLER

ENVIRONMENT_SECRET = "planted-in-the-environment"
ARGUMENT_SECRET = "planted-in-the-arguments"


@dataclass(frozen=True)
class Settings:
    learning_rate: float = 1e-5
    extra: Mapping[str, Any] = field(default_factory=dict)


def clear_environment(patch: pytest.MonkeyPatch) -> None:
    for name in (
        "WANDB_API_KEY",
        "WANDB_MODE",
        "WANDB_DIR",
        "WANDB_RUN_ID",
        "WANDB_PROJECT",
        "WANDB_DATA_DIR",
        "WANDB_SERVICE",
    ):
        patch.setenv(name, "")  # so that it is put back even if the sink sets it
        patch.delenv(name)


@pytest.fixture(autouse=True)
def without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)


def group(iteration: int) -> Group:
    rollout = make_rollout(
        f"{iteration}/p/0", [[1, 2], [3]], outcome=1.0, scores={"prm": [0.5, 0.25]}
    )
    failure = Failure(reason="lost", detail=BY_SHAPE[0])
    return Group(prompt=rollout.prompt, rollouts=(rollout,), failures=(failure,))


def report(directory: RunDirectory, config: Settings, iterations: range, resumed: int | None):
    sinks = [Files(), Wandb(), Console()]
    with Reporter(directory, config, iterations=9, resumed=resumed, sinks=sinks) as reporter:
        for iteration in iterations:
            record = {"iteration": iteration, "train/loss": 1.0 / iteration}
            reporter.iteration(record, [group(iteration)])
            reporter.iteration({"iteration": iteration, "eval/accuracy": iteration / 10})


@dataclass(frozen=True)
class Reported:
    """A run that was reported with secrets in its configuration, environment and arguments."""

    directory: RunDirectory
    printed: str


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    directory = RunDirectory.create(tmp_path_factory.mktemp("runs"), "demo")
    planted = {**dict(BY_NAME), "environment": ENVIRONMENT_SECRET}
    planted |= {f"field_{index}": secret for index, secret in enumerate(BY_SHAPE)}
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        clear_environment(patch)
        patch.setenv("SOME_SERVICE_TOKEN", ENVIRONMENT_SECRET)
        patch.setattr(sys, "argv", ["recipe.py", "--password", ARGUMENT_SECRET])
        report(directory, Settings(extra=planted), range(1, 4), resumed=None)
        report(directory, Settings(extra=planted), range(3, 5), resumed=2)
    yield Reported(directory, printed.getvalue())


@cache
def inspect(path: Path, *options: str) -> str:
    """What `wandb leet inspect` reads from a run's log."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def logs(reported: Reported) -> list[Path]:
    return sorted((reported.directory.path / "wandb").glob("offline-run-*/run-*.wandb"))


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in inspect(path).splitlines()]
    return [row[kind] for row in rows if row["type"] == kind]


def test_the_metrics_are_logged_by_iteration(reported: Reported):
    history = [row["item"] for row in records(logs(reported)[0], "history")]
    assert [row["iteration"] for row in history] == [1, 2, 3] == [row["_step"] for row in history]
    assert history[1]["train/loss"] == 0.5
    assert [row["eval/accuracy"] for row in history] == [0.1, 0.2, 0.3]  # of a second record
    metrics = records(logs(reported)[0], "metric")
    assert {"glob_name": "*", "step_metric": "iteration"}.items() <= metrics[-1].items()


def test_a_resumed_run_keeps_its_id(reported: Reported):
    first, second = logs(reported)
    (before,), (after,) = records(first, "run"), records(second, "run")
    assert before["run_id"] == after["run_id"] and after["display_name"] == "demo"
    assert [row["item"]["_step"] for row in records(second, "history")] == [3, 4]


def test_configuration_and_summary_arrive(reported: Reported):
    found = json.loads(inspect(logs(reported)[1], "--summary"))
    assert found["config"]["config"]["learning_rate"] == 1e-5
    assert found["config"]["config"]["extra"]["password"] == "<redacted>"
    assert found["summary"]["iterations"] == 4 and found["summary"]["failed"] is False


def test_the_table_has_a_row_a_step(reported: Reported):
    found = (reported.directory.path / "wandb").rglob("rollouts_*.table.json")
    tables = sorted((json.loads(path.read_text()) for path in found), key=lambda t: t["data"][0][0])
    assert [table["data"][0][0] for table in tables] == [1, 2, 3, 3, 4]  # 3 happened twice
    assert tables[0] == {
        "columns": [
            "iteration", "prompt_id", "rollout_id", "step", "text", "observed", "scores",
            "outcome", "version",
        ],
        "data": [
            [1, "p", "1/p/0", 0, "1 2 ", "", "prm 0.500", "correct", 0],
            [1, "p", "1/p/0", 1, "3 ", "", "prm 0.250", "correct", 0],
        ],
    }  # fmt: skip


def test_no_planted_secret_is_in_any_artefact(reported: Reported):
    files = [path for path in reported.directory.path.rglob("*") if path.is_file()]
    assert len(files) > 10
    written = {str(path): path.read_bytes() for path in files}
    written |= {f"{path} (read)": inspect(path).encode() for path in logs(reported)}
    written["printed"] = reported.printed.encode()
    secrets = [secret for _, secret in BY_NAME] + BY_SHAPE
    assert len(secrets) >= 30
    for secret in [*secrets, FILLER, ENVIRONMENT_SECRET, ARGUMENT_SECRET]:
        for name, data in written.items():
            assert secret.encode() not in data, f"{secret} is in {name}"


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "k"}, "online"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
    ],
)
def test_the_mode_follows_the_environment(monkeypatch, environment: dict[str, str], mode: str):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode() == mode


def test_a_mode_that_wandb_does_not_have_is_refused_before_a_run(monkeypatch):
    Wandb().check()
    monkeypatch.setenv("WANDB_MODE", "sideways")
    with pytest.raises(ValueError, match="WANDB_MODE is 'sideways'; it is 'online', 'offline'"):
        Wandb().check()


@pytest.mark.parametrize(
    ("name", "value"), [("WANDB_MODE", "sideways"), ("WANDB_API_KEY", "planted")]
)
def test_wandb_that_does_not_start_says_what_to_do(monkeypatch, tmp_path: Path, name, value):
    monkeypatch.setenv(name, value)
    start = RunStart(name="demo", folder=tmp_path, config={}, iterations=1)
    told = rf"(?s){wandb_mode()!r}.*check WANDB_API_KEY.*set WANDB_MODE=offline"
    with pytest.raises(RuntimeError, match=told) as refusal:
        Wandb().open(start)
    assert "planted" not in str(refusal.value)


def test_a_key_that_is_refused_ends_no_run(monkeypatch, tmp_path: Path, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    directory = RunDirectory.create(tmp_path, "demo")
    with Reporter(directory, Settings(), iterations=1, sinks=[Files(), Wandb()]) as reporter:
        reporter.iteration({"iteration": 1, "train/loss": 0.5})
    [row] = directory.metrics
    assert row == {"iteration": 1, "train/loss": 0.5, "sinks/failed": 1}
    assert json.loads(directory.summary.read_text())["sinks_failed"] == {"Wandb": 1}
    [said] = [r.getMessage() for r in caplog.records if r.name == "rlstep.reporting.reporter"]
    assert said.startswith(
        "at the start: Wandb: RuntimeError: wandb does not start in mode 'online'"
    )
    assert said.endswith("the run goes on without it") and "too-short" not in said


def test_what_was_observed_has_a_column_of_its_own():
    rollout = make_rollout("1/p/0", [[11], [12]], observed={-1: [31], 0: [32, 33]})
    rows = list(step_rows(1, [Group(prompt=rollout.prompt, rollouts=(rollout,))]))
    text, observed = (STEP_COLUMNS.index(name) for name in ("text", "observed"))
    assert [(row[text], row[observed]) for row in rows] == [("11 ", "32 33 "), ("12 ", "")]
    assert {len(row) for row in rows} == {len(STEP_COLUMNS)}
