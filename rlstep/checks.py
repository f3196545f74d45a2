"""Refusing wrong values, with the field's name and the nearest valid one."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

PartT = TypeVar("PartT")


def at_least(name: str, value: float, smallest: float) -> None:
    """Refuse what is no number, or under its bound.

    Raises:
        TypeError: naming the field.
        ValueError: naming the field and the nearest valid value.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    if not value >= smallest:  # also refuses NaN
        raise ValueError(f"{name} is {value}; the smallest valid value is {smallest}")


def positive(name: str, value: float) -> None:
    """Refuse what is no number, or not above 0.

    Raises:
        TypeError: naming the field.
        ValueError: naming the field.
    """
    at_least(name, value, 0.0)
    if value == 0:
        raise ValueError(f"{name} is {value}; it must be above 0")


def between(name: str, value: float, smallest: float, largest: float) -> None:
    """Refuse what is no number, or outside of its bounds.

    Raises:
        TypeError: naming the field.
        ValueError: naming the field and the nearest valid value.
    """
    at_least(name, value, smallest)
    if value > largest:
        raise ValueError(f"{name} is {value}; the largest valid value is {largest}")


def named(name: str, source: str, wanted: str = "step scores, for instance 'prm'") -> None:
    """Refuse an empty name of a source of scores.

    Raises:
        ValueError: naming the field.
    """
    if not source:
        raise ValueError(f"{name} is ''; name the {wanted}")


def json_able(name: str, value: Any) -> None:
    """Refuse what JSON does not bring back as it was; a tuple comes back as a list, and may.

    Raises:
        ValueError: naming the entry, inside lists and objects too.
    """
    try:
        _json_able(name, value)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply, or holds itself") from error


def _json_able(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{name} has the key {key!r}; JSON has only strings as keys")
            _json_able(f"{name}.{key}", entry)
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            _json_able(f"{name}.{number}", entry)
    elif not (value is None or isinstance(value, str | int | float)):
        raise ValueError(f"{name} is of type {type(value).__name__}, which JSON does not have")


def needs_extra(name: str, package: str) -> None:
    """Refuse to work without a package that the extra of its name brings.

    Raises:
        ValueError: it is not installed; says how it is.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{name} needs the package {package}, which is not installed:"
            f" pip install 'rlstep[{package}]'"
        )


def check_types(value: Any, path: str) -> None:
    """Refuse values of a wrong plain type anywhere in a tree of dataclasses.

    Raises:
        TypeError: naming the field and the type it needs.
        ValueError: naming the field and the nearest valid choice.
    """
    hints = typing.get_type_hints(type(value))
    for f in dataclasses.fields(value):
        name = f"{path}.{f.name}" if path else f.name
        entry = getattr(value, f.name)
        _check_entry(name, entry, hints[f.name])
        for i, item in enumerate(entry if isinstance(entry, tuple) else (entry,)):
            if dataclasses.is_dataclass(item):
                check_types(item, f"{name}.{i}" if isinstance(entry, tuple) else name)


def parts(value: Any, kind: type[PartT]) -> Iterator[PartT]:
    """Every instance of a class in a tree of dataclasses and tuples of them."""
    if isinstance(value, kind):
        yield value
    if dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            yield from parts(getattr(value, f.name), kind)
    elif isinstance(value, tuple):
        for item in value:
            yield from parts(item, kind)


def _check_entry(name: str, entry: Any, hint: Any) -> None:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if (type(entry), entry) not in [(type(choice), choice) for choice in choices]:
            raise ValueError(
                f"{name} is {entry!r}; it is one of {', '.join(map(repr, choices))}"
                f" (nearest: {_nearest(entry, choices)!r})"
            )
        return
    kind = typing.get_origin(hint) or hint
    if kind in (typing.Union, types.UnionType) or not isinstance(kind, type):
        return
    wanted = (int, float) if kind is float else (kind,)
    if not isinstance(entry, wanted) or (isinstance(entry, bool) and kind is not bool):
        raise TypeError(f"{name} is {entry!r}; it must be of type {kind.__name__}")


def _nearest(entry: Any, choices: tuple[Any, ...]) -> Any:
    if isinstance(entry, int | float) and isinstance(choices[0], int):
        return min(choices, key=lambda choice: abs(choice - entry))
    names = {str(choice): choice for choice in choices}
    return names[difflib.get_close_matches(str(entry), names, 1, 0.0)[0]]
