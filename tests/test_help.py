"""Every field that `--help` shows has a sentence of its own: a string below it in its class."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from rlstep.commands.catalog import ROOMS, plugins
from rlstep.config import Config
from rlstep.fit_config import FitConfig


def described(kind: type) -> set[str]:
    """The fields that a class itself says something of."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = set()
    for entry, below in zip(body.body, body.body[1:], strict=False):
        text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name) and text:
            assert isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if str(below.value.value).strip():
                found.add(entry.target.id)
    return found


def silent(kind: type) -> list[str]:
    """The fields of which neither a class nor those it comes from say anything."""
    families = [each for each in kind.__mro__ if dataclasses.is_dataclass(each)]
    known = set().union(*(described(each) for each in families))
    return [f.name for f in dataclasses.fields(kind) if f.name not in known]


def within(hint: object) -> Iterator[type]:
    """The dataclasses that a type speaks of: tuples and unions of them as well."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from within(part)


def shown() -> list[type]:
    """Both configurations, every plug-in that can stand in one, and what stands inside of these."""
    waiting: list[type] = [Config, FitConfig, *(kind for room in ROOMS for kind in plugins(room))]
    found: dict[type, None] = {}
    while waiting:
        kind = waiting.pop()
        if kind in found or not dataclasses.is_dataclass(kind):
            continue
        found[kind] = None
        hints = typing.get_type_hints(kind)
        waiting += [part for f in dataclasses.fields(kind) for part in within(hints[f.name])]
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


@pytest.mark.parametrize("kind", shown(), ids=lambda kind: kind.__name__)
def test_every_field_has_a_sentence(kind: type) -> None:
    assert silent(kind) == []


def test_the_walk_goes_everywhere() -> None:
    names = {kind.__name__ for kind in shown()}
    assert len(names) >= 100
    assert {"Config", "FitConfig", "Preferences"} <= names
    assert {"Sampling", "LoraConfig", "Thresholds", "HttpPolicy", "Route", "Kl", "Clip"} <= names


def test_a_silent_field_is_found() -> None:
    @dataclass
    class Base:
        told: int = 0
        """Said here."""

    @dataclass
    class Child(Base):
        told: int = 1
        silent: int = 0
        empty: list[int] = field(default_factory=list)
        """ """

    assert silent(Child) == ["silent", "empty"]
