"""The run as a page, when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlstep.interfaces import RunStart, Sink
from rlstep.measuring.metrics import Record
from rlstep.reporting.page import write_page
from rlstep.reporting.run_directory import RunDirectory
from rlstep.types import Group

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Page(Sink):
    """report.html, made of the run's files when the others are closed."""

    def open(self, start: RunStart) -> _OpenPage:
        return _OpenPage(RunDirectory(start.folder))


@dataclass
class _OpenPage:
    directory: RunDirectory

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        pass  # the page is made of what the run has written

    def close(self, summary: Mapping[str, Any]) -> None:
        try:
            print(f"report {write_page(self.directory)}", flush=True)
        except Exception as error:
            logger.exception("the page of the run could not be made")
            print(
                f"no report: {type(error).__name__}: {error}; `rlstep report"
                f" {self.directory.path}` makes it from the run's files",
                flush=True,
            )
