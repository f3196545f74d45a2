"""`rlstep list`: every plug-in of the package, with a line and its papers."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import rlstep
from rlstep import interfaces
from rlstep.commands.catalog import PLUG_POINTS, ROOMS, arxiv_ids, catalog, plugins, summary
from rlstep.losses.dpo import Dpo
from tests.commands.test_cli import command
from tests.test_imports import imports

NOBODYS_PAPER = {"CrossEntropy"}
"""Losses, advantages and pairs as old as the field."""

NOT_WALKED = ("rlstep.actors", "rlstep.testing")


def below(parent: type) -> Iterator[type]:
    for child in parent.__subclasses__():
        yield child
        yield from below(child)


def defined() -> set[type]:
    """Every public concrete subclass of a plug point that any module of the package defines."""
    for module in pkgutil.walk_packages(rlstep.__path__, "rlstep."):
        if not module.name.startswith(NOT_WALKED):
            importlib.import_module(module.name)
    found = {child for point in PLUG_POINTS for child in below(point)}
    return {
        c
        for c in found
        if c.__module__.startswith("rlstep.")
        and not c.__module__.startswith(NOT_WALKED)
        and not inspect.isabstract(c)
        and not c.__name__.startswith("_")
    }


def test_the_plug_points_are_those_of_the_interfaces():
    names = {point.__name__ for point in PLUG_POINTS}
    assert names >= {"Task", "StepSplitter", "Verifier", "RolloutStrategy", "Labeller"}
    assert names >= {"SampleBuilder", "Loss"}
    assert interfaces.GenerateRole not in PLUG_POINTS  # a protocol: a role, no plug-in


def test_every_plug_in_of_the_package_is_listed_once_with_a_line():
    listed = [plugin for room in ROOMS for plugin in plugins(room)]
    assert set(listed) == defined() and len(set(listed)) == len(listed)
    lines = catalog().splitlines()
    for plugin in listed:
        name, line = plugin.__name__, summary(plugin)
        assert len(line) >= 20, f"{name}: its docstring says nothing"
        assert not line.startswith(f"{name}("), f"{name} has no docstring"
        assert sum(entry.startswith(f"  {name} ") and line in entry for entry in lines) == 1


@pytest.mark.parametrize("room", ["losses", "advantages", "pairs"])
def test_what_comes_from_a_paper_names_it(room: str):
    without = {plugin.__name__ for plugin in plugins(room) if not arxiv_ids(plugin)}
    assert without <= NOBODYS_PAPER


def test_papers_are_read_from_the_docstring():
    class Made(Dpo):
        """First (arXiv:2305.18290).

        Then 2502.14356v2, 2305.18290 again, 1234.5, 1234.567890 and 3.14159.
        """

    assert summary(Made) == "First (arXiv:2305.18290)."
    assert arxiv_ids(Made) == ["2305.18290", "2502.14356"]


def test_one_room(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch, "list", "losses") == 0
    out = capsys.readouterr().out
    assert out.startswith("losses\n") and "2502.14356" in out and "OutcomePairs" not in out


def test_all_rooms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch, "list") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line in ROOMS] == list(ROOMS)


def test_every_printed_import_line_imports_what_it_lists():
    """Each is executed as it is printed, with nothing else in reach."""
    lines = catalog().splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    imported = [line.strip() for line in lines if line.startswith("      ")]
    assert len(listed) == len(imported) >= 90
    for name, line in zip(listed, imported, strict=True):
        assert line.startswith("from rlstep.") and line.endswith(f" import {name}")
        found: dict[str, object] = {}
        exec(line, found)  # what a reader would type
        kind = found[name]
        assert isinstance(kind, type) and issubclass(kind, PLUG_POINTS), line


def test_an_unknown_room_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, "list", "loses") == 2
    assert "no room 'loses', the nearest is 'losses'; there are tasks," in capsys.readouterr().err


def test_two_rooms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch, "list", "losses", "pairs") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line in ROOMS] == [
        "losses",
        "pairs",
    ]


def test_importing_it_loads_no_torch():
    assert imports(["rlstep.commands.catalog"], ("torch", "ray", "vllm", "deepspeed")) == ""


def test_listing_loads_no_cluster(monkeypatch: pytest.MonkeyPatch):
    """No more than the rooms, none of which loads it: tests/test_imports.py."""
    asked: list[str] = []
    load = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: asked.append(name) or load(name))
    catalog()
    assert len(asked) > 100 and not [name for name in asked if name.startswith(NOT_WALKED)]
