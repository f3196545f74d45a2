"""One record an iteration, handed to every sink."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rlstep.interfaces import OpenSink, RunStart, Sink, StepOracle
from rlstep.measuring.metrics import Record
from rlstep.plugins import described
from rlstep.reporting.describe import describe_config, describe_versions
from rlstep.reporting.disk import as_disk_full
from rlstep.reporting.files import write_json
from rlstep.reporting.origins import now, read_versions
from rlstep.reporting.redact import redact
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.summary import summarize
from rlstep.types import Group

logger = logging.getLogger(__name__)


class Reporter:
    """Writes down what happens in a run.

        with Reporter(directory, config, sinks=config.sinks, iterations=200) as reporter:
            reporter.iteration({"iteration": 1, "train/loss": 0.69}, groups)

    Leaving the block writes summary.json and closes every sink, the last one first, also after an
    error. What a sink raises is said and counted (see `Sink`), and never ends a run.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: Any,
        *,
        sinks: Sequence[Sink],
        iterations: int,
        evaluation_every: int = 0,
        resumed: int | None = None,
        oracle: StepOracle | None = None,
        recipe: Any = None,
    ) -> None:
        """
        Args:
            directory: of the run.
            config: its configuration, of nested dataclasses.
            sinks: where its records go.
            iterations: how many the run will have.
            evaluation_every: iterations between evaluations, 0 where only the last is evaluated.
            resumed: the iteration whose checkpoint it goes on from, None for a new run.
            oracle: the task, where it knows which steps are right.
            recipe: what the recipe itself returned, before anything was overridden.

        Raises:
            ValueError: a field of the configuration has no written form.
        """
        self._directory = directory
        self._start = RunStart(
            name=directory.name,
            folder=directory.path,
            config=describe_config(config),
            iterations=iterations,
            evaluation_every=evaluation_every,
            resumed=resumed,
            oracle=oracle,
        )
        self._recipe = None if recipe is None else describe_config(recipe)
        self._sinks, self._open = tuple(sinks), list[tuple[Sink, OpenSink]]()
        self._extra: dict[str, Any] = {}
        self._failed: Counter[str] = Counter()
        self._told = 0
        self._failing: list[Sink] = []

    def __enter__(self) -> Self:
        directory = self._directory
        # A resumed run is under way, whatever it ended as before.
        directory.summary.unlink(missing_ok=True)
        if self._start.resumed is not None:
            # After 0 it starts over, and its first evaluation comes again.
            directory.truncate_after(self._start.resumed or -1)
        write_json(directory.config, self._start.config)
        if self._recipe is not None:
            write_json(directory.recipe, self._recipe)
        # Of a resumed run, what it came from stands.
        earlier = {} if self._start.resumed is None else read_versions(directory)
        write_json(directory.versions, {"started": now(), **earlier, **describe_versions()})
        for sink in self._sinks:
            with self._surviving("at the start", sink):
                self._open.append((sink, _opened(sink, self._start)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        summary: dict[str, Any] = {"failed": True}
        try:
            summary = self._summary(failed=kind is not None)
            write_json(self._directory.summary, summary)
        finally:
            counted = self._failed.total()
            for sink, opened in reversed(self._open):
                with self._surviving("at the end", sink, opened):
                    opened.close(summary)
        if self._failed.total() > counted:
            write_json(self._directory.summary, self._summary(failed=kind is not None))

    def _summary(self, *, failed: bool) -> dict[str, Any]:
        lost = {"sinks_failed": dict(self._failed)} if self._failed else {}
        return {"failed": failed, **summarize(self._directory.metrics), **self._extra, **lost}

    def iteration(self, record: Record, groups: Sequence[Group] = ()) -> None:
        """Report an iteration, or more about one.

        Args:
            record: metrics by name, and the iteration under 'iteration'.
            groups: what was trained on, sorted by prompt_id.
        """
        if failed := self._failed.total() - self._told:
            record = {**record, "sinks/failed": failed}
            self._told += failed
        for sink, opened in self._open:
            with self._surviving(f"iteration {record['iteration']}", sink, opened):
                opened.iteration(record, groups)

    @contextmanager
    def _surviving(self, when: str, sink: Sink, opened: OpenSink | None = None) -> Iterator[None]:
        """What a sink raises inside is counted, and said when it begins and when it is over."""
        name = type(sink).__name__
        was_failing = any(sink is each for each in self._failing)
        try:
            yield
        except Exception as error:
            self._failed[name] += 1
            if not was_failing:
                self._failing.append(sink)
                full = as_disk_full(error, self._directory.path, 0)
                told = full or redact(described(error, opened or sink))
                rest = "the run goes on" if opened else "the run goes on without it"
                logger.error("%s: %s: %s; %s", when, name, told, rest)
        else:
            if was_failing:
                self._failing = [each for each in self._failing if each is not sink]
                logger.warning("%s: %s works again", when, name)

    def add_to_summary(self, **values: Any) -> None:
        """Further entries of summary.json."""
        self._extra |= values


def _opened(sink: Sink, start: RunStart) -> OpenSink:
    opened = sink.open(start)
    if not isinstance(opened, OpenSink):
        raise TypeError(f"open returned {opened!r}, which has no iteration and close")
    return opened
