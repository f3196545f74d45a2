"""MLflow: a run at a tracking server."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rlstep.checks import at_least, needs_extra
from rlstep.interfaces import RunStart, Sink
from rlstep.measuring.metrics import Record
from rlstep.reporting.rows import STEP_COLUMNS, step_rows
from rlstep.types import Group

MlflowClient: TypeAlias = Any
"""MLflow's class; a machine without the extra has none to check against."""

PATIENCE_S = 60.0
"""Longest wait at the end for what is still under way."""

MOST_WAITING = 64
"""Records that a slow server may be behind."""

_PARAMS, _METRICS = 100, 1000
"""Most of one call, a limit of MLflow (3.17); so is the length of a value."""
_LONGEST_VALUE = 6000


@dataclass(frozen=True, kw_only=True)
class MLflow(Sink):
    """A run of an MLflow experiment: parameters, metrics by iteration, tables of rollouts.

    A server keeps every value of a step, also of one that happens again. So a resume goes on with
    its MLflow run only where that has nothing of a later iteration; else with a new one, which the
    metrics up to the checkpoint are copied to; the earlier one is tagged `rlstep.superseded_by`.
    The server is asked in a thread: a slow one holds up nobody.
    """

    uri: str = ""
    """Of the tracking server, like http://127.0.0.1:5000; empty takes MLFLOW_TRACKING_URI. Who
    signs in is MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN, in the environment."""
    experiment: str = "rlstep"
    """Made where there is none of this name."""
    table_groups: int = 4
    """Groups of every iteration whose steps go into its table; rollouts.jsonl has all."""

    def __post_init__(self) -> None:
        at_least("mlflow.table_groups", self.table_groups, 0)

    def check(self) -> None:
        needs_extra("sinks: MLflow", "mlflow")
        if not (self.uri or os.environ.get("MLFLOW_TRACKING_URI")):
            raise ValueError(
                "sinks: MLflow has no uri, and MLFLOW_TRACKING_URI is not set; it is the tracking"
                " server's, like http://127.0.0.1:5000"
            )

    def open(self, start: RunStart) -> _OpenMLflow:
        # MLflow's own choice is 7 tries of 120 s, before a run as well as after it.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient as Client  # pyright: ignore

        client = Client(tracking_uri=self.uri or None)  # pyright: ignore
        kept = start.folder / "mlflow_run_id"
        before = kept.read_text() if start.resumed and kept.exists() else ""
        if before and _last(client, before) <= (start.resumed or 0):
            client.update_run(before, status="RUNNING")
            return _OpenMLflow(client, before, self.table_groups)
        run_id = _new_run(client, self.experiment, start)
        if before:
            _copy(client, before, run_id, start.resumed or 0)
        kept.write_text(run_id)
        return _OpenMLflow(client, run_id, self.table_groups)


@dataclass
class _OpenMLflow:
    client: MlflowClient
    run_id: str
    table_groups: int
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "mlflow"))
    sent: list[Future[None]] = field(default_factory=list)

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        iteration, now = int(record["iteration"]), _now()
        values = [(name, float(value), now, iteration) for name, value in record.items()]
        rows = [list(row) for row in step_rows(iteration, groups[: self.table_groups])]
        if len(self.sent) < MOST_WAITING:
            self._later(lambda: self._send(iteration, values, rows))
        else:
            raise TimeoutError(f"the server is {MOST_WAITING} records behind, this one is left out")
        self._raise_failed()

    def _send(self, iteration: int, values: Sequence[_Value], rows: list[list[Any]]) -> None:
        _log_metrics(self.client, self.run_id, values)
        if rows:
            table = {"columns": list(STEP_COLUMNS), "data": rows}
            self.client.log_dict(self.run_id, table, f"rollouts/iteration-{iteration:06d}.json")

    def close(self, summary: Mapping[str, Any]) -> None:
        self._later(lambda: self._finish(dict(summary)))
        _, late = wait(self.sent, PATIENCE_S)
        self.thread.shutdown(wait=False, cancel_futures=True)
        self._raise_failed()
        if late:
            raise TimeoutError(f"after {PATIENCE_S:g} s {len(late)} records are not sent")

    def _finish(self, summary: dict[str, Any]) -> None:
        self.client.log_dict(self.run_id, summary, "summary.json")
        self.client.set_terminated(self.run_id, "FAILED" if summary["failed"] else "FINISHED")

    def _later(self, work: Callable[[], None]) -> None:
        self.sent.append(self.thread.submit(work))

    def _raise_failed(self) -> None:
        """Raises: what went wrong with a record since the last one was handed over."""
        done = [each for each in self.sent if each.done() and not each.cancelled()]
        self.sent = [each for each in self.sent if not each.done()]
        for each in done:
            each.result()


_Value = tuple[str, float, int, int]
"""Name, value, milliseconds since 1970, iteration."""


def _now() -> int:
    return int(time.time() * 1000)


def _new_run(client: MlflowClient, experiment: str, start: RunStart) -> str:
    from mlflow.entities import Param  # pyright: ignore

    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    run_id = client.create_run(place, run_name=start.name).info.run_id
    params = [Param(_key(name), text[:_LONGEST_VALUE]) for name, text in _leaves(start.config)]
    for first in range(0, len(params), _PARAMS):
        client.log_batch(run_id, params=params[first : first + _PARAMS])
    client.log_dict(run_id, start.config, "config.json")
    return run_id


def _last(client: MlflowClient, run_id: str) -> int:
    """The last iteration that a run has anything of."""
    return max((m.step for m in client.get_metric_history(run_id, "iteration")), default=0)


def _copy(client: MlflowClient, before: str, run_id: str, iteration: int) -> None:
    """An earlier run's metrics up to an iteration."""
    names = client.get_run(before).data.metrics
    history = (m for name in names for m in client.get_metric_history(before, name))
    values = [(m.key, m.value, m.timestamp, m.step) for m in history if m.step <= iteration]
    _log_metrics(client, run_id, values)
    client.set_tag(run_id, "rlstep.goes_on_from", before)
    client.set_tag(before, "rlstep.superseded_by", run_id)
    client.set_terminated(before, "KILLED")


def _log_metrics(client: MlflowClient, run_id: str, values: Sequence[_Value]) -> None:
    from mlflow.entities import Metric  # pyright: ignore

    metrics = [Metric(_key(name), *rest) for name, *rest in values]
    for first in range(0, len(metrics), _METRICS):
        client.log_batch(run_id, metrics=metrics[first : first + _METRICS])


def _key(name: str) -> str:
    """As MLflow takes it."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _leaves(config: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a configuration under its dotted name."""
    if isinstance(config, Mapping):
        items = config.items()
    elif isinstance(config, list) and any(isinstance(each, Mapping) for each in config):
        items = enumerate(config)
    else:
        yield name, str(config)
        return
    for key, value in items:
        yield from _leaves(value, f"{name}.{key}" if name else str(key))
