"""One record an iteration, handed to every sink."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from rlstep.interfaces import StepOracle
from rlstep.measuring.metrics import Record
from rlstep.reporting.console import ConsoleSink
from rlstep.reporting.describe import describe_config, describe_versions
from rlstep.reporting.disk import as_disk_full
from rlstep.reporting.files import write_json
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks import FileSink, PageSink, RunStart, Sink
from rlstep.reporting.summary import summarize
from rlstep.reporting.wandb_sink import WandbSink
from rlstep.types import Group

logger = logging.getLogger(__name__)


class Reporter:
    """Writes down what happens in a run.

        with Reporter(directory, config, iterations=200) as reporter:
            reporter.iteration({"iteration": 1, "train/loss": 0.69}, groups)

    Leaving the block writes summary.json and closes every sink, also after an error.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: Any,
        *,
        iterations: int,
        evaluation_every: int = 0,
        resumed: int | None = None,
        oracle: StepOracle | None = None,
        recipe: Any = None,
        sinks: Sequence[Sink] | None = None,
    ) -> None:
        """
        Args:
            directory: of the run.
            config: its configuration, of nested dataclasses.
            iterations: how many the run will have.
            evaluation_every: iterations between evaluations, 0 where only the last is evaluated.
            resumed: the iteration whose checkpoint it goes on from, None for a new run.
            oracle: the task, where it knows which steps are right.
            recipe: what the recipe itself returned, before anything was overridden.
            sinks: the page, files, wandb and the console by default.

        Raises:
            ValueError: a field of the configuration has no written form.
        """
        self._start = RunStart(
            directory=directory,
            config=describe_config(config),
            iterations=iterations,
            evaluation_every=evaluation_every,
            resumed=resumed,
            oracle=oracle,
        )
        self._recipe = None if recipe is None else describe_config(recipe)
        # Closed the last one first: the page is made of everything else.
        every = (PageSink(), FileSink(), WandbSink(), ConsoleSink())
        self._sinks = every if sinks is None else tuple(sinks)
        self._extra: dict[str, Any] = {}
        self._summary: dict[str, Any] = {"failed": True}
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        # A resumed run is under way, whatever it ended as before.
        self._start.directory.summary.unlink(missing_ok=True)
        directory = self._start.directory
        write_json(directory.config, self._start.config)
        if self._recipe is not None:
            write_json(directory.recipe, self._recipe)
        write_json(directory.versions, describe_versions())
        with ExitStack() as opened:
            for sink in self._sinks:
                sink.open(self._start)
                opened.callback(self._close, sink)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        directory = self._start.directory
        with self._opened:
            self._summary = {
                "failed": kind is not None,
                **summarize(directory.metrics),
                **self._extra,
            }
            write_json(directory.summary, self._summary)

    def _close(self, sink: Sink) -> None:
        sink.close(self._summary)

    def iteration(self, record: Record, groups: Sequence[Group] = ()) -> None:
        """Report an iteration, or more about one. A full disk is named, and the run goes on.

        Args:
            record: metrics by name, and the iteration under 'iteration'.
            groups: what was trained on, sorted by prompt_id.
        """
        for sink in self._sinks:
            try:
                sink.iteration(record, groups)
            except Exception as error:
                full = as_disk_full(error, self._start.directory.path, 0)
                if full is None:
                    raise
                logger.error("iteration %d: %s: %s", record["iteration"], type(sink).__name__, full)

    def add_to_summary(self, **values: Any) -> None:
        """Further entries of summary.json."""
        self._extra |= values
