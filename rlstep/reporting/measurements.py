"""What each iteration showed of its prompts, in the run's directory: curricula choose by it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from rlstep.interfaces import Measurement
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.files import JsonLines

logger = logging.getLogger(__name__)


class MeasurementLog:
    """One line an iteration, 'iteration' counting from 1 as in metrics.jsonl.

    A line that finds no room on the disk is said, and written with the next one.
    """

    def __init__(self, file: JsonLines) -> None:
        self._file = file
        self._waiting: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[Measurement]:
        for row in self._file:
            for of in row["prompts"]:
                yield Measurement(iteration=row["iteration"] - 1, **of)

    def add(self, iteration: int, measured: Sequence[Measurement]) -> None:
        """Write down an iteration (from 0), also one of which nothing was measured."""
        prompts = [
            {name: getattr(each, name) for name in ("prompt_id", "samples", "correct", "scores")}
            for each in measured
        ]
        self._waiting.append({"iteration": iteration + 1, "prompts": prompts})
        try:
            self._file.append(*self._waiting)
        except DiskFull as error:
            logger.error("%s; the run goes on, and what was measured is written later", error)
        else:
            self._waiting = []

    def check(self, iterations: int) -> None:
        """Refuse to go on where the log is not whole.

        Args:
            iterations: how many the run has done, as its checkpoint has it.

        Raises:
            ValueError: names the file and the first iteration that is not there.
        """
        there = {row["iteration"] for row in self._file}
        lacking = [number for number in range(1, iterations + 1) if number not in there]
        if lacking:
            raise ValueError(
                f"resume: {self._file.path} has nothing of iteration {lacking[0]}, and the"
                " curriculum chooses by what was measured there; begin another run, from this"
                " one's export"
            )
