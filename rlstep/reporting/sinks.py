"""Where records go. A sink is opened once, gets every iteration, and is closed once."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlstep.interfaces import StepOracle
from rlstep.measuring.metrics import Record
from rlstep.reporting.page import write_page
from rlstep.reporting.rows import rollout_rows
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.summary import plot_accuracy
from rlstep.types import Group

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """What sinks know when they are opened."""

    directory: RunDirectory
    config: Any
    """The configuration as `describe_config` writes it."""
    iterations: int
    """How many the run will have."""
    evaluation_every: int = 0
    """Iterations between evaluations beside that of the last, 0 without any."""
    resumed: int | None = None
    """The iteration whose checkpoint it goes on from, None for a new run."""
    oracle: StepOracle | None = None
    """The task, where it knows which steps are right."""


class Sink(ABC):
    """One place that records go to."""

    @abstractmethod
    def open(self, start: RunStart) -> None:
        """Get ready.

        Raises:
            RuntimeError: it cannot; the message says what to do.
        """

    @abstractmethod
    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        """Take an iteration's metrics, and the groups it trained on.

        An iteration may come in several records: what it trained, then how it was evaluated.
        """

    @abstractmethod
    def close(self, summary: Mapping[str, Any]) -> None:
        """Finish, also after an error; `summary['failed']` tells."""


class PageSink(Sink):
    """report.html, when the run has ended: a page that fails is named, and fails nothing else."""

    def open(self, start: RunStart) -> None:
        self._directory = start.directory

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        pass  # the page is made of what the run has written

    def close(self, summary: Mapping[str, Any]) -> None:
        try:
            print(f"report {write_page(self._directory)}", flush=True)
        except Exception as error:
            logger.exception("the page of the run could not be made")
            print(
                f"no report: {type(error).__name__}: {error}; `rlstep report"
                f" {self._directory.path}` makes it from the run's files",
                flush=True,
            )


class FileSink(Sink):
    """metrics.jsonl, rollouts.jsonl and accuracy.png of the run's directory."""

    def open(self, start: RunStart) -> None:
        self._directory, self._oracle = start.directory, start.oracle
        self._rollouts: list[Mapping[str, Any]] = []
        self._records: list[Record] = []
        if start.resumed is not None:
            start.directory.truncate_after(start.resumed)

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        iteration = int(record["iteration"])
        self._rollouts += rollout_rows(iteration, groups, self._oracle)
        self._records.append(record)
        # What a full disk does not take is tried again with the next iteration. Rollouts first: a
        # crash in between leaves no iteration whose rollouts are missing.
        self._directory.rollouts.append(*self._rollouts)
        self._rollouts.clear()
        self._directory.metrics.append(*self._records)
        self._records.clear()

    def close(self, summary: Mapping[str, Any]) -> None:
        plot_accuracy(self._directory.metrics, self._directory.accuracy_plot)
