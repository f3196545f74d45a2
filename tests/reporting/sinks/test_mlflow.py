"""Against a small client of ours; and, where MLflow with a database is installed, against that."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks import mlflow as sink
from rlstep.reporting.sinks.files import Files
from rlstep.reporting.sinks.mlflow import MLflow
from tests.reporting.sinks import sink_kit

real = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("mlflow", "sqlalchemy")),
    reason="needs mlflow with its database, which is not installed",
)
VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_DISABLE_TELEMETRY",
)


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Param(NamedTuple):
    key: str
    value: str


@dataclass
class Kept:
    """What a server keeps of a run."""

    name: str
    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    status: str = "RUNNING"


class Server:
    """As much of MlflowClient as the sink asks for; every value of a step is kept, as there."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, Kept] = {}
        self.fails: set[str] = set()
        self.released = threading.Event()
        self.released.set()

    def get_experiment_by_name(self, name: str) -> Any:
        place = self.experiments.get(name)
        return SimpleNamespace(experiment_id=place) if place else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"e{len(self.experiments)}")

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        assert experiment_id in self.experiments.values()
        self.runs[run_id := f"r{len(self.runs)}"] = Kept(run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()
    ) -> None:
        self.released.wait()
        if failing := self.fails & {each.key for each in metrics}:
            raise ConnectionError(f"no server at http://me:hunter2@node:1 for {failing}")
        assert len(metrics) <= 1000 and len(params) <= 100
        self.runs[run_id].metrics += metrics
        self.runs[run_id].params |= dict(params)

    def log_dict(self, run_id: str, value: Any, place: str) -> None:
        self.runs[run_id].files[place] = json.loads(json.dumps(value))

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status

    set_terminated = update_run

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.runs[run_id].tags[name] = value

    def get_run(self, run_id: str) -> Any:
        last = {each.key: each.value for each in self.runs[run_id].metrics}
        return SimpleNamespace(data=SimpleNamespace(metrics=last))

    def get_metric_history(self, run_id: str, name: str) -> list[Metric]:
        return [each for each in self.runs[run_id].metrics if each.key == name]


@pytest.fixture(autouse=True)
def without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back even if the sink sets it
        monkeypatch.delenv(name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    vars(module).update(MlflowClient=lambda tracking_uri: made)
    vars(entities).update(Metric=Metric, Param=Param)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    yield made
    made.released.set()


def report(
    directory: RunDirectory,
    iterations: range,
    resumed: int | None = None,
    scale: float = 1.0,
    mlflow: MLflow | None = None,
) -> Mapping[str, Any]:
    sink = mlflow or MLflow(uri="http://127.0.0.1:5000")
    return sink_kit.report(directory, iterations, sink, resumed, scale)


def points(run: Kept, name: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in run.metrics if each.key == name]


def test_a_run_has_its_configuration_metrics_tables_and_summary(tmp_path: Path, server: Server):
    report(RunDirectory.create(tmp_path, "demo"), range(1, 3))
    [run] = server.runs.values()
    assert (run.name, run.status, list(server.experiments)) == ("demo", "FINISHED", ["rlstep"])
    assert points(run, "train/loss") == [(1, 1.0), (2, 2.0)]
    assert points(run, "eval/accuracy") == [(1, 0.5), (2, 1.0)]
    assert (
        run.params["generator.context"]
        == "128"
        == str(run.files["config.json"]["generator"]["context"])
    )
    assert run.params["sinks.0.class"].endswith("Page")
    assert run.files["rollouts/iteration-000002.json"]["data"][1][:5] == [2, "p", "2/p/0", 1, "3 "]
    assert run.files["summary.json"]["iterations"] == 2


def test_a_run_that_failed_is_one_there(tmp_path: Path, server: Server):
    directory = RunDirectory.create(tmp_path, "demo")
    with (
        pytest.raises(KeyError),
        Reporter(directory, {}, iterations=1, sinks=[Files(), MLflow(uri="http://a")]),
    ):
        raise KeyError
    assert [run.status for run in server.runs.values()] == ["FAILED"]


# What ran first, the checkpoint it goes on from, and how many runs there are then.
RESUMES = [(4, 4, 1), (4, 2, 2), (4, 1, 2), (6, 5, 2), (1, 1, 1), (3, 0, 2)]


@pytest.mark.parametrize(("first", "resumed", "runs"), RESUMES)
def test_a_resumed_run_has_every_point_once(
    tmp_path: Path, server: Server, first: int, resumed: int, runs: int
):
    directory = RunDirectory.create(tmp_path, "demo")
    report(directory, range(0, first + 1))
    begin = resumed + 1 if resumed else 0
    report(directory, range(begin, 7), resumed=resumed, scale=10.0)
    *before, (run_id, run) = server.runs.items()
    wanted = [(i, float(i) if i < begin else 10.0 * i) for i in range(0, 7)]
    assert points(run, "train/loss") == wanted and run.status == "FINISHED"
    assert len(points(run, "eval/accuracy")) == 7
    assert len(before) == runs - 1
    if before and resumed:
        [(old_id, old)] = before
        assert (old.tags, old.status) == ({"rlstep.superseded_by": run_id}, "KILLED")
        assert run.tags == {"rlstep.goes_on_from": old_id}


def test_a_call_that_fails_is_counted_and_the_next_record_goes_out(tmp_path: Path, server, caplog):
    server.fails = {"train/loss"}
    summary = report(RunDirectory.create(tmp_path, "demo"), range(1, 4))
    [run] = server.runs.values()
    assert points(run, "train/loss") == [] and len(points(run, "eval/accuracy")) == 3
    assert 1 <= summary["sinks_failed"]["MLflow"] <= 3  # as many as were done when it was asked
    told = caplog.text
    assert "MLflow: ConnectionError: no server at http://<redacted>@node:1" in told


def test_a_server_that_hangs_holds_up_nothing(tmp_path: Path, server, monkeypatch, caplog):
    monkeypatch.setattr(sink, "PATIENCE_S", 0.05)
    monkeypatch.setattr(sink, "MOST_WAITING", 4)
    directory = RunDirectory.create(tmp_path, "demo")
    opened = MLflow(uri="http://a")

    class Hanging(MLflow):
        def open(self, start: Any) -> Any:
            made = opened.open(start)
            server.released.clear()
            return made

    summary = report(directory, range(1, 6), mlflow=Hanging(uri="http://a"))
    assert len(list(directory.metrics)) == 10
    assert "4 records behind" in caplog.text
    assert summary["sinks_failed"] == {"Hanging": 7}  # six records left out, and the end


def test_a_server_that_is_not_there_ends_no_run(tmp_path: Path, server, monkeypatch, caplog):
    monkeypatch.setattr(server, "create_run", lambda *_, **__: [].pop())
    summary = report(RunDirectory.create(tmp_path, "demo"), range(1, 3))
    assert summary["iterations"] == 2 and summary["sinks_failed"] == {"MLflow": 1}
    assert "at the start: MLflow: IndexError" in caplog.text


def test_waits_are_bounded_unless_the_user_says_otherwise(tmp_path: Path, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "33")
    report(RunDirectory.create(tmp_path, "demo"), range(0))
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "33"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"


def test_what_it_lacks_is_said_before_a_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    told = r"MLflow needs the package mlflow.*: pip install 'rlstep\[mlflow\]'"
    with pytest.raises(ValueError, match=told):
        MLflow(uri="http://a").check()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    with pytest.raises(ValueError, match=r"no uri, and MLFLOW_TRACKING_URI is not set"):
        MLflow().check()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a")
    MLflow().check()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("train/loss", "train/loss"),
        ("failures/a_b-c.d", "failures/a_b-c.d"),
        ("a: b c", "a: b c"),
        ("a[b]", "a_b_"),
        ("a(b)=c,d", "a_b__c_d"),
    ],
)
def test_names_are_as_mlflow_takes_them(name: str, key: str):
    assert sink._key(name) == key


# --- the package itself --------------------------------------------------------------------------


@real
@pytest.mark.parametrize(("first", "resumed", "runs"), RESUMES)
def test_mlflow_has_every_point_once(tmp_path: Path, first: int, resumed: int, runs: int):
    module: Any = importlib.import_module("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = module.MlflowClient(tracking_uri=uri, registry_uri=uri)
    place = client.create_experiment("theirs", artifact_location=f"file://{tmp_path}/artifacts")
    directory, mlflow = RunDirectory.create(tmp_path, "demo"), MLflow(uri=uri, experiment="theirs")
    before = report(directory, range(0, first + 1), mlflow=mlflow)
    begin = resumed + 1 if resumed else 0
    after = report(directory, range(begin, 7), resumed=resumed, scale=10.0, mlflow=mlflow)
    assert "sinks_failed" not in {*before, *after}
    run, *older = client.search_runs([place], order_by=["attributes.start_time DESC"])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    wanted = [(i, float(i) if i < begin else 10.0 * i) for i in range(0, 7)]
    assert sorted((each.step, each.value) for each in history) == wanted
    assert (len(older), run.info.status, run.info.run_name) == (runs - 1, "FINISHED", "demo")
    assert run.data.params["generator.context"] == "128"
    table = client.download_artifacts(run.info.run_id, "rollouts/iteration-000006.json")
    assert json.loads(Path(table).read_text())["data"][0][0] == 6
