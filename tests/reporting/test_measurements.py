"""The log that curricula choose by."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rlstep.interfaces import Measurement
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.files import JsonLines
from rlstep.reporting.measurements import MeasurementLog


def of(iteration: int, score: float = 1 / 3) -> Measurement:
    return Measurement(
        iteration=iteration, prompt_id="a; b\n", samples=3, correct=1, scores={"outcome": score}
    )


def test_what_is_read_is_what_was_written_bit_by_bit(tmp_path: Path) -> None:
    log = MeasurementLog(JsonLines(tmp_path / "log"))
    written = [of(0), of(0, 0.1 + 0.2), of(2, 1e-17)]
    log.add(0, written[:2])
    log.add(1, [])
    log.add(2, written[2:])
    assert list(log) == written
    assert [row["iteration"] for row in JsonLines(tmp_path / "log")] == [1, 2, 3]


def test_a_log_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    log = MeasurementLog(JsonLines(tmp_path / "log"))
    log.check(0)
    with pytest.raises(ValueError, match=r"resume: .*log has nothing of iteration 1, and"):
        log.check(1)
    for iteration in (0, 2):
        log.add(iteration, [])
    log.check(1)
    with pytest.raises(ValueError, match="nothing of iteration 2"):
        log.check(3)


def test_a_full_disk_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(JsonLines):
        full = True

        def append(self, *rows: Any) -> None:
            if self.full:
                raise DiskFull(self.path, 7)
            super().append(*rows)

    file = Full(tmp_path / "log")
    log = MeasurementLog(file)
    with caplog.at_level(logging.ERROR):
        log.add(0, [of(0)])
    assert "the run goes on, and what was measured is written later" in caplog.text
    file.full = False
    log.add(1, [of(1)])
    assert list(log) == [of(0), of(1)]
