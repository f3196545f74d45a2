"""The run's own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlstep.interfaces import RunStart, Sink, StepOracle
from rlstep.measuring.metrics import Record
from rlstep.reporting.rows import rollout_rows
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.summary import plot_accuracy
from rlstep.types import Group


@dataclass(frozen=True, kw_only=True)
class Files(Sink):
    """metrics.jsonl, rollouts.jsonl and accuracy.png of the run's directory."""

    def open(self, start: RunStart) -> _OpenFiles:
        return _OpenFiles(RunDirectory(start.folder), start.oracle)


@dataclass
class _OpenFiles:
    directory: RunDirectory
    oracle: StepOracle | None
    rollouts: list[Mapping[str, Any]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        iteration = int(record["iteration"])
        self.rollouts += rollout_rows(iteration, groups, self.oracle)
        self.records.append(record)
        # What a full disk does not take is tried again with the next iteration. Rollouts first: a
        # crash in between leaves no iteration whose rollouts are missing.
        self.directory.rollouts.append(*self.rollouts)
        self.rollouts.clear()
        self.directory.metrics.append(*self.records)
        self.records.clear()

    def close(self, summary: Mapping[str, Any]) -> None:
        plot_accuracy(self.directory.metrics, self.directory.accuracy_plot)
