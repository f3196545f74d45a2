"""A full disk is named, whoever found it: the path, what is needed, what is free."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlstep.interfaces import RunStart, Sink
from rlstep.reporting import disk
from rlstep.reporting.disk import DiskFull, as_disk_full, free_bytes
from rlstep.reporting.files import JsonLines, write_json
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.running.checkpoint import Checkpoints, RunState


class _OfAnActor(RuntimeError):
    """As Ray hands on what an actor raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("ray::LearnerRank.save()")
        self.cause = cause


def _chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "over quota"),
        _OfAnActor(FULL),
        _OfAnActor(_OfAnActor(FULL)),
        _chained(RuntimeError("write failed"), FULL),
        _OfAnActor(_chained(RuntimeError("write failed"), FULL)),
    ],
    ids=repr,
)
def test_whoever_hands_it_on_it_is_a_full_disk(error: BaseException, tmp_path: Path):
    full = as_disk_full(error, tmp_path / "iteration-000007", 12_345)
    assert full is not None and full.errno == errno.ENOSPC
    assert "No space left on device (ENOSPC): it needs 12,345 bytes, " in str(full)
    assert str(tmp_path / "iteration-000007") in str(full)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EACCES, "denied"), ValueError("no"), _OfAnActor(RuntimeError("other"))],
    ids=repr,
)
def test_another_error_stays_what_it_is(error: BaseException, tmp_path: Path):
    assert as_disk_full(error, tmp_path, 1) is None


def test_what_fails_without_a_word_on_a_disk_without_bytes_fails_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(disk, "free_bytes", lambda _: 4096)
    full = as_disk_full(RuntimeError("PytorchStreamWriter failed writing file"), tmp_path, 7)
    assert full is not None and "it needs 7 bytes, 4,096 are free" in str(full)


class Raw:
    """A file on a disk with room for so many bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(data[: self.room])
        self.room -= written
        return written


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that every file still takes, under 'left'; unbounded where it is empty."""
    left: dict[str, int] = {}
    real = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = real(path, mode, *arguments, **options)
        return Raw(file, left["left"]) if left and mode == "ab" else file

    monkeypatch.setattr(Path, "open", opened)
    return left


@pytest.mark.parametrize("left", [0, 1, 10, 30])
def test_rows_that_do_not_fit_leave_no_torn_line(left: int, tmp_path: Path, room: dict[str, int]):
    file = JsonLines(tmp_path / "metrics.jsonl")
    file.append({"iteration": 1})
    room["left"] = left
    with pytest.raises(DiskFull, match=r"metrics\.jsonl") as caught:
        file.append({"iteration": 2, "loss": 0.5}, {"iteration": 2, "loss": 0.25})
    assert "it needs 61 bytes" in str(caught.value)
    room.clear()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"iteration": 1}\n'
    file.append({"iteration": 3})
    assert [row["iteration"] for row in file] == [1, 3]


def test_a_full_disk_is_named_the_run_goes_on_and_nothing_is_lost(
    tmp_path: Path, room: dict[str, int], caplog: pytest.LogCaptureFixture
):
    directory = RunDirectory.create(tmp_path, "run")
    with Reporter(directory, {}, iterations=3, sinks=[Files()]) as reporter:
        reporter.iteration({"iteration": 1})
        room["left"] = 5
        with caplog.at_level(logging.ERROR):
            reporter.iteration({"iteration": 2})
        assert "iteration 2: Files: [Errno 28] No space left on device (ENOSPC)" in caplog.text
        assert "metrics.jsonl" in caplog.text
        room.clear()
        reporter.iteration({"iteration": 3})
    assert [row["iteration"] for row in directory.metrics] == [1, 2, 3]


class Service(Sink):
    """As wandb, whose service writes in a process of its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def open(self, start: RunStart) -> Service:
        return self

    def iteration(self, record: Any, groups: Any) -> None:
        raise self.error

    def close(self, summary: Any) -> None: ...


@pytest.mark.parametrize("error", [FULL, RuntimeError("the service is gone")], ids=repr)
def test_so_it_is_from_wandb(
    error: Exception,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    directory = RunDirectory.create(tmp_path, "run")
    monkeypatch.setattr(disk, "free_bytes", lambda _: 0)
    with Reporter(directory, {}, iterations=3, sinks=[Service(error)]) as reporter:
        reporter.iteration({"iteration": 1})
    assert "Service: [Errno 28] No space left on device (ENOSPC)" in caplog.text


async def test_a_checkpoint_says_how_much_it_takes(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    async with checkpoints.writing(RunState(iteration=1)) as folder:
        (folder / "weights").write_bytes(b"w" * 4_000)
    size = sum(p.stat().st_size for p in (tmp_path / "checkpoints").rglob("*") if p.is_file())
    with pytest.raises(DiskFull, match=f"it needs {size:,} bytes"):
        async with checkpoints.writing(RunState(iteration=2)) as folder:
            (folder / "weights").write_bytes(b"w" * 10)
            raise _OfAnActor(FULL)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["iteration-000001"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of 2 MiB takes a root that may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_on_a_real_full_disk(small_disk: Path):
    checkpoints = Checkpoints(small_disk / "checkpoints")
    with pytest.raises(DiskFull, match="iteration-000001"):
        async with checkpoints.writing(RunState(iteration=1)) as folder:
            (folder / "weights").write_bytes(b"w" * (3 << 20))
    assert free_bytes(small_disk) > 1 << 20, "what was half written stayed"
    file = JsonLines(small_disk / "metrics.jsonl")
    file.append({"iteration": 1})
    with pytest.raises(DiskFull):
        file.append({"iteration": 2, "text": "t" * (3 << 20)})
    with pytest.raises(DiskFull, match=r"summary\.json"):
        write_json(small_disk / "summary.json", {"text": "t" * (3 << 20)})
    assert [row["iteration"] for row in file] == [1]
    assert sorted(p.name for p in small_disk.iterdir()) == ["checkpoints", "metrics.jsonl"]
