"""What a writer is told; and, where TensorBoard is installed, what its own reader finds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.tensorboard import TensorBoard
from tests.reporting.sinks import sink_kit

real = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="needs the extra tensorboard, which is not installed",
)


def report(
    directory: RunDirectory, iterations: range, resumed: int | None = None, scale: float = 1.0
) -> None:
    sink_kit.report(directory, iterations, TensorBoard(), resumed, scale)


class FakeWriter:
    """Remembers what it is told."""

    made: list[FakeWriter]

    def __init__(self, folder: str, **settings: Any) -> None:
        self.folder, self.told = folder, list[tuple[Any, ...]]()
        self.made.append(self)

    def add_scalar(self, *values: Any) -> None:
        self.told.append(values)

    def add_text(self, *values: Any) -> None:
        self.told.append(values)

    def close(self) -> None:
        self.told.append(("closed",))


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWriter]:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter
    monkeypatch.setattr(FakeWriter, "made", made := [], raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return made


def test_metrics_stand_by_iteration_and_steps_as_they_are(tmp_path: Path, writers: list[Any]):
    directory = RunDirectory.create(tmp_path, "demo")
    report(directory, range(1, 3))
    [writer] = writers
    assert writer.folder == str(directory.path / "tensorboard")
    (name, config, step), *told = writer.told
    assert (name, step) == ("config", 0) and '    "name": "' in config
    assert all(line.startswith("    ") for line in config.splitlines())
    assert [each for each in told if each[0] != "rollouts"] == [
        ("train/loss", 1.0, 1),
        ("eval/accuracy", 0.5, 1),
        ("train/loss", 2.0, 2),
        ("eval/accuracy", 1.0, 2),
        ("closed",),
    ]
    assert next(each[1:] for each in told if each[0] == "rollouts") == (
        "**p**, 1/p/0: correct\n\n    0 (prm 0.500): 1 2 \n\n    1 (prm 0.250): 3 \n",
        1,
    )


def test_a_resumed_run_writes_its_configuration_once(tmp_path: Path, writers: list[Any]):
    directory = RunDirectory.create(tmp_path, "demo")
    for resumed in (None, 2, 0):
        report(directory, range(0), resumed=resumed)
    written = [[each[0] for each in writer.told] for writer in writers]
    assert written == [["config", "closed"], ["closed"], ["config", "closed"]]


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    told = r"TensorBoard needs the package tensorboard.*: pip install 'rlstep\[tensorboard\]'"
    with pytest.raises(ValueError, match=told):
        TensorBoard().check()


def test_a_number_of_groups_is_no_less_than_none():
    with pytest.raises(ValueError, match=r"table_groups is -1; the smallest valid value is 0"):
        TensorBoard(table_groups=-1)


def read(directory: RunDirectory) -> Any:
    accumulator: Any = importlib.import_module(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    found = accumulator.EventAccumulator(str(directory.path / "tensorboard"))
    return found.Reload()


def points(found: Any, name: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in found.Scalars(name)]


def texts(found: Any, name: str) -> list[int]:
    return [each.step for each in found.Tensors(f"{name}/text_summary")]


@real
def test_tensorboard_reads_what_was_told(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "demo")
    report(directory, range(0, 4))
    found = read(directory)
    assert points(found, "train/loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert points(found, "eval/accuracy") == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.5)]
    assert (texts(found, "config"), texts(found, "rollouts")) == ([0], [0, 1, 2, 3])


# What ran first, the checkpoint it goes on from; what is there once 6 have run.
@real
@pytest.mark.parametrize(("first", "resumed"), [(4, 2), (4, 4), (4, 1), (3, 0), (6, 5), (1, 0)])
def test_a_resumed_run_has_every_point_once(tmp_path: Path, first: int, resumed: int):
    directory = RunDirectory.create(tmp_path, "demo")
    report(directory, range(0, first + 1))
    begin = resumed + 1 if resumed else 0
    report(directory, range(begin, 7), resumed=resumed, scale=10.0)
    found = read(directory)
    assert points(found, "train/loss") == [
        (i, float(i) if i < begin else 10.0 * i) for i in range(0, 7)
    ]
    assert (texts(found, "config"), texts(found, "rollouts")) == ([0], list(range(7)))
    assert list((directory.path / "tensorboard").glob(".*")) == []


@real
def test_a_torn_last_event_is_dropped(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "demo")
    report(directory, range(1, 4))
    [file] = (directory.path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    report(directory, range(3, 5), resumed=2)
    assert points(read(directory), "eval/accuracy") == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
