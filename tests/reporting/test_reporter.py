from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlstep.interfaces import RunStart, Sink
from rlstep.measuring.metrics import Record
from rlstep.reporting.files import JsonLines
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.types import Failure, Group, Prompt
from tests.builders import make_counts, make_rollout


@dataclass(frozen=True)
class Settings:
    learning_rate: float = 1e-5
    model: str = "models/tiny"


class RecordingSink(Sink):
    """Remembers its calls; fails on some of them."""

    def __init__(self, *fails: str) -> None:
        self.calls: list[str] = []
        self.records: list[Record] = []
        self.fails = fails
        self.summary: Mapping[str, Any] = {}

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise RuntimeError(f"{name} failed at http://me:hunter2@node:1")

    def open(self, start: RunStart) -> RecordingSink:
        self._call("open")
        return self

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        self.records.append(record)
        self._call(f"iteration {record['iteration']}")

    def close(self, summary: Mapping[str, Any]) -> None:
        self.summary = summary
        self._call("close")


class FailingSink(RecordingSink):
    """One that has another name in what is said and counted."""


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "demo")


def group() -> Group:
    scored = make_rollout(
        "1/p/0",
        [[1, 2], [3]],
        outcome=1.0,
        scores={"prm": [0.5, 0.25], "monte_carlo": make_counts(n=[0, 4], k=[0, 3])},
        versions=[(2, 0, 2), (3, 2, 3)],
    )
    failed = make_rollout("1/p/1", [[4]])
    lost = Failure(reason="generator_lost", detail="http://me:hunter2@node:1 is gone")
    return Group(prompt=scored.prompt, rollouts=(scored, failed), failures=(lost,))


def test_the_files_of_a_run(directory: RunDirectory):
    with Reporter(directory, Settings(), iterations=2, sinks=[Files()]) as reporter:
        reporter.iteration({"iteration": 1, "train/loss": 0.5, "time/iteration": 2.0}, [group()])
        reporter.add_to_summary(trained_rollouts=2)

    config = json.loads(directory.config.read_text())
    assert config["learning_rate"] == 1e-5 and config["class"].endswith("Settings")
    assert "torch" in json.loads(directory.versions.read_text())["packages"]
    assert list(directory.metrics) == [{"iteration": 1, "train/loss": 0.5, "time/iteration": 2.0}]
    summary = json.loads(directory.summary.read_text())
    assert summary["failed"] is False and summary["train_seconds"] == 2.0
    assert summary["trained_rollouts"] == 2
    assert directory.accuracy_plot.is_file()


def test_a_rollout_can_be_read(directory: RunDirectory):
    with Reporter(directory, Settings(), iterations=2, sinks=[Files()]) as reporter:
        reporter.iteration({"iteration": 1}, [group()])
    scored, failed, lost = directory.rollouts
    assert scored == {
        "iteration": 1,
        "rollout_id": "1/p/0",
        "parent": None,
        "prompt_id": "p",
        "prompt": "question",
        "steps": [  # Monte Carlo labelled the second step only
            {"text": "1 2 ", "scores": {"prm": 0.5}},
            {"text": "3 ", "scores": {"monte_carlo": 0.75, "prm": 0.25}},
        ],
        "answer": "",
        "reference": "42",
        "verdict": "correct",
        "scores": {},
        "failures": {},
        "finish_reason": "stop",
        "versions": [[2, 0, 2], [3, 2, 3]],
    }
    assert (failed["verdict"], failed["failures"]) == (None, {"outcome": "timeout"})
    assert lost["failure"] == "generator_lost: http://<redacted>@node:1 is gone"


def test_a_resumed_run_goes_on_from_its_checkpoint(directory: RunDirectory):
    def run(iterations: Sequence[int], resumed: int | None) -> None:
        with Reporter(
            directory, Settings(), iterations=4, resumed=resumed, sinks=[Files()]
        ) as reporter:
            for iteration in iterations:
                record = {"iteration": iteration, "time/iteration": 1.0, "run": len(iterations)}
                reporter.iteration(record, [group()])

    run([1, 2, 3], resumed=None)
    run([3, 4], resumed=2)
    assert [(r["iteration"], r["run"]) for r in directory.metrics] == [
        (1, 3),
        (2, 3),
        (3, 2),
        (4, 2),
    ]
    assert [row["iteration"] for row in directory.rollouts] == [
        i for i in (1, 2, 3, 4) for _ in "abc"
    ]
    summary = json.loads(directory.summary.read_text())
    assert (summary["iterations"], summary["train_seconds"]) == (4, 4.0)


def test_an_old_summary_is_gone_from_the_start(directory: RunDirectory):
    with Reporter(directory, Settings(), iterations=1, sinks=[Files()]) as reporter:
        reporter.iteration({"iteration": 1})
        reporter.add_to_summary(complete=True)
    assert json.loads(directory.summary.read_text())["complete"] is True
    with Reporter(directory, Settings(), iterations=2, resumed=1, sinks=[Files()]) as reporter:
        assert not directory.summary.exists()  # who looks now sees a run that goes on
        reporter.iteration({"iteration": 2})
    assert "complete" not in json.loads(directory.summary.read_text())


def test_an_error_in_the_run_closes_every_sink_and_passes_on(directory: RunDirectory):
    sinks = [RecordingSink(), RecordingSink()]
    with (
        pytest.raises(KeyError, match="boom"),
        Reporter(directory, Settings(), iterations=2, sinks=sinks) as reporter,
    ):
        reporter.iteration({"iteration": 1})
        raise KeyError("boom")
    for sink in sinks:
        assert sink.calls == ["open", "iteration 1", "close"]
        assert sink.summary["failed"] is True
    assert json.loads(directory.summary.read_text())["failed"] is True


EVERY = ("open", "iteration 1", "iteration 2", "iteration 3", "close")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "rlstep.reporting.reporter"]


# Where it stands, on which calls it fails; how often it is heard of, and the count that the records
# of iterations 1, 2 and 3 carry of what failed since the one before.
FAILURES: list[tuple[tuple[str, ...], int, tuple[int, int, int]]] = [
    ((), 0, (0, 0, 0)),
    (("open",), 1, (1, 0, 0)),
    (("iteration 1",), 2, (0, 1, 0)),  # and that it works again
    (("iteration 2",), 2, (0, 0, 1)),
    (("iteration 3",), 2, (0, 0, 0)),  # told by the summary
    (("iteration 1", "iteration 2"), 2, (0, 1, 1)),
    (("iteration 1", "iteration 3"), 4, (0, 1, 0)),
    (("iteration 1", "iteration 2", "iteration 3"), 2, (0, 1, 1)),
    (("iteration 1", "iteration 2", "iteration 3", "close"), 1, (0, 1, 1)),
    (("close",), 1, (0, 0, 0)),
]


@pytest.mark.parametrize(
    "place", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("fails", "heard", "counts"), FAILURES)
def test_a_sink_that_fails_ends_no_run_and_harms_no_other(
    directory: RunDirectory,
    caplog: pytest.LogCaptureFixture,
    place: int,
    fails: tuple[str, ...],
    heard: int,
    counts: tuple[int, int, int],
):
    others, failing = [RecordingSink(), RecordingSink()], FailingSink(*fails)
    sinks = [Files(), *others[:place], failing, *others[place:]]
    with (
        caplog.at_level(logging.WARNING),
        Reporter(directory, Settings(), iterations=3, sinks=sinks) as reporter,
    ):
        for iteration in (1, 2, 3):
            reporter.iteration({"iteration": iteration})
    for other in others:
        assert other.calls == list(EVERY)
    assert failing.calls == (list(EVERY) if "open" not in fails else ["open"])  # tried again
    told = [{"sinks/failed": count} if count else {} for count in counts]
    expected = [{"iteration": i, **each} for i, each in enumerate(told, 1)]
    assert list(directory.metrics) == expected == others[0].records
    summary = json.loads(directory.summary.read_text())
    assert summary["failed"] is False
    assert summary.get("sinks_failed") == ({"FailingSink": len(fails)} if fails else None)
    assert len(said(caplog)) == heard
    if heard:
        first = said(caplog)[0]
        assert f"FailingSink: RuntimeError: {fails[0]} failed" in first
        assert "test_reporter.py, line" in first and "hunter2" not in first
        assert ("goes on without it" in first) == ("open" in fails)


@pytest.mark.parametrize("wrong", [None, {}, object()])
def test_a_sink_that_opens_nothing_is_named(directory: RunDirectory, caplog, wrong: Any):
    class Forgetful(RecordingSink):
        def open(self, start: RunStart) -> Any:
            return wrong

    with Reporter(directory, Settings(), iterations=1, sinks=[Files(), Forgetful()]) as reporter:
        reporter.iteration({"iteration": 1})
    assert "Forgetful: TypeError: open returned" in said(caplog)[0]


def test_the_files_fail_like_any_other(directory: RunDirectory, monkeypatch, caplog):
    other = RecordingSink()
    with Reporter(directory, Settings(), iterations=2, sinks=[Files(), other]) as reporter:
        with monkeypatch.context() as broken:
            broken.setattr(JsonLines, "append", lambda *_: [].pop())
            reporter.iteration({"iteration": 1})
        reporter.iteration({"iteration": 2})
    assert other.calls == ["open", "iteration 1", "iteration 2", "close"]
    assert [row["iteration"] for row in directory.metrics] == [1, 2]  # nothing is lost
    assert "Files: IndexError" in said(caplog)[0]


def test_ctrl_c_in_a_sink_is_no_failure_of_it(directory: RunDirectory):
    class Interrupted(RecordingSink):
        def iteration(self, record: Record, groups: Sequence[Group]) -> None:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Reporter(directory, Settings(), iterations=1, sinks=[Interrupted()]) as reporter,
    ):
        reporter.iteration({"iteration": 1})


def test_sinks_are_closed_the_last_one_first(directory: RunDirectory):
    order: list[str] = []

    class Named(RecordingSink):
        def close(self, summary: Mapping[str, Any]) -> None:
            order.append(self.fails[0])

    with Reporter(directory, Settings(), iterations=1, sinks=[Named("a"), Named("b")]):
        pass
    assert order == ["b", "a"]


def test_a_run_that_starts_over_has_its_first_evaluation_once(directory: RunDirectory):
    for resumed in (None, 0):
        with Reporter(
            directory, Settings(), iterations=2, resumed=resumed, sinks=[Files()]
        ) as reporter:
            reporter.iteration({"iteration": 0})
            reporter.iteration({"iteration": 1})
    assert [row["iteration"] for row in directory.metrics] == [0, 1]


def test_a_task_that_knows_the_first_error_has_it_written(directory: RunDirectory):
    class Oracle:
        def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
            return next((i for i, text in enumerate(step_texts) if "3" in text), None)

    reporter = Reporter(directory, Settings(), iterations=1, oracle=Oracle(), sinks=[Files()])
    with reporter:
        reporter.iteration({"iteration": 1}, [group()])
    scored, failed, lost = directory.rollouts  # the steps '1 2 ' and '3 '; the step '4 '
    assert (scored["first_error"], failed["first_error"]) == (1, None)
    assert "first_error" not in lost


def test_what_the_recipe_said_is_kept_beside_what_ran(directory: RunDirectory):
    recipe, ran = Settings(), Settings(learning_rate=1.0)
    with Reporter(directory, ran, iterations=1, recipe=recipe, sinks=[Files()]):
        pass
    assert json.loads(directory.recipe.read_text())["learning_rate"] == 1e-5
    assert json.loads(directory.config.read_text())["learning_rate"] == 1.0
