"""Progress on the terminal: a live bar, or one line an iteration where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlstep.interfaces import RunStart, Sink
from rlstep.measuring.metrics import Record
from rlstep.plugins import failed_scores
from rlstep.types import Group

if TYPE_CHECKING:
    import rich.console

_SHOWN = {
    "train": ("rollout/accuracy", ".1%"),
    "eval": ("eval/accuracy", ".1%"),
    "shots": ("eval/shots", "g"),
    "sampled": ("eval/sampled/accuracy", ".1%"),
    "eval nll": ("eval/nll", ".4f"),
    "eval auc": ("eval/auc", ".4f"),
    "eval labels": ("eval/label_accuracy", ".1%"),
    "eval pairs": ("eval/pair_accuracy", ".1%"),
    "loss": ("train/loss", ".4f"),
}

_AFTER = ("updates", "rates", "failed")


def _signal(record: Record, groups: Sequence[Group]) -> dict[str, str]:
    known = {}
    if "train/updates" in record:
        without = record.get("rollout/without_signal", 0.0)
        known["updates"] = f"updates {record['train/updates']:.0f}  no signal {without:.0%}"
    if record.get("rollout/failures"):
        told = "; ".join(map(str, failed_scores(groups)))
        known["failed"] = f"failed {record['rollout/failures']:.0f}{f' ({told})' if told else ''}"
    return known


@dataclass(frozen=True, kw_only=True)
class Console(Sink):
    """A bar with rates and accuracies, and the summary as a table at the end."""

    def open(self, start: RunStart) -> OpenConsole:
        import rich.console

        return OpenConsole(start, rich.console.Console())


class OpenConsole:
    """What `Console` shows of a run, on any console."""

    def __init__(
        self,
        start: RunStart,
        console: rich.console.Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            clock: seconds.
        """
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console, self.clock = console, clock
        self._done = start.resumed or 0
        self._first: int | None = None
        self._total, self._every = start.iterations, start.evaluation_every
        self._started = self._last = self.clock()
        self._known: dict[str, str] = {}
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[line]}"),
            console=self.console,
            get_time=self.clock,
            disable=not self.console.is_terminal,
        )
        self._waiting = ""
        self._task = self._bar.add_task(
            start.name, total=self._total, completed=self._done, line=""
        )
        where = f"run {start.folder}"  # in one line, to be copied
        self.console.print(where, markup=False, highlight=False, soft_wrap=True)
        self._bar.start()

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        if int(record["iteration"]) != self._done:
            self._flush()  # it was not evaluated after all
        line = self._describe(record, groups)
        self._done = int(record["iteration"])
        if self._first is None:  # the start of the roles is no part of the pace
            self._first, self._started = self._done, self._last
        if self.console.is_terminal:
            self._bar.update(self._task, completed=self._done, line=line)
        else:
            head = f"iteration {self._done}/{self._total}  {line}  left {self._left()}"
            self._waiting = head
            if any(name.startswith("eval/") for name in record) or not self._evaluated(self._done):
                self._flush()

    def _evaluated(self, iteration: int) -> bool:
        """Whether an evaluation of it is still to come: one line is printed for both."""
        every = self._every
        return iteration >= self._total or (every > 0 and iteration % every == 0)

    def _flush(self) -> None:
        if self._waiting:
            self.console.print(self._waiting, markup=False, highlight=False, soft_wrap=True)
        self._waiting = ""

    def close(self, summary: Mapping[str, Any]) -> None:
        from rich.table import Table

        self._flush()
        self._bar.stop()
        table = Table("", "", title="run failed" if summary["failed"] else "run ended")
        table.show_header = False
        for name, value in summary.items():
            if value is not None:  # never measured
                table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
        self.console.print(table)

    def _describe(self, record: Record, groups: Sequence[Group]) -> str:
        """What is known last of each: accuracies, and of the last trained iteration its loss,
        rates, updates, share of groups without signal, and what failed with the first reason."""
        if "rollout/groups" in record:  # an iteration without a loss shows no other one's
            for name in ("train", "loss", "updates", "rates", "failed"):
                self._known.pop(name, None)
            self._known |= _signal(record, groups)
        now = self.clock()
        seconds, self._last = now - self._last, now
        if "rollout/rollouts" in record and seconds > 0:
            rates = record["rollout/rollouts"] / seconds, record.get("rollout/tokens", 0) / seconds
            self._known["rates"] = f"{rates[0]:.1f} rollouts/s  {rates[1]:.0f} tokens/s"
        for name, (metric, style) in _SHOWN.items():
            if metric in record:
                self._known[name] = f"{name} {record[metric]:{style}}"
        return "  ".join(self._known[name] for name in (*_SHOWN, *_AFTER) if name in self._known)

    def _left(self) -> str:
        """Time to the end at the mean pace since the first line, h:mm:ss."""
        if self._first is None or self._done <= self._first:
            return "-"
        pace = (self._last - self._started) / (self._done - self._first)
        minutes, seconds = divmod(round(pace * (self._total - self._done)), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
