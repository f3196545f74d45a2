"""`rlstep list`, what can stand in a recipe: every plug-in of the package, found by looking.

Nothing is registered: a plug-in is a concrete subclass of a plug point in interfaces/ that some
module of a room defines, and what is said about it comes from its docstring.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence

from rlstep.commands.words import Words, nearest
from rlstep.plugins import PLUG_POINTS as PLUG_POINTS
from rlstep.reporting.origins import arxiv_ids as arxiv_ids
from rlstep.reporting.origins import summary as summary

ROOMS = (
    "tasks",
    "examples",
    "curriculum",
    "steps",
    "rollouts",
    "self_play",
    "environments",
    "tools",
    "scoring",
    "benchmarks",
    "pairs",
    "advantages",
    "labels",
    "uncertainty",
    "losses",
    "adapters",
    "aggregation",
    "optimizers",
    "sinks",
    "merging",
)
"""In the order in which a run uses them."""

_PLACES = {"labels": "rlstep.tensors.labels", "sinks": "rlstep.reporting.sinks"}
"""Where a room that is a single module, or stands in another, is found."""


def main(words: Sequence[str]) -> None:
    """Print the plug-ins of the rooms, or of all.

    Raises:
        ValueError: there is no such room, or an option; names the nearest.
    """
    parser = Words(prog="rlstep list", description="What can stand in a recipe, with its paper.")
    parser.add_argument("rooms", metavar="ROOM", nargs="*", help=f"{', '.join(ROOMS)}; or all")
    print(catalog(parser.parse_args(words).rooms or ROOMS))


def plugins(room: str) -> list[type]:
    """The plug-ins of a room, by name. Imports its modules, the losses' torch included."""
    found = (
        entry
        for module in _modules(_PLACES.get(room, f"rlstep.{room}"))
        for name, entry in vars(importlib.import_module(module)).items()
        if inspect.isclass(entry)
        and issubclass(entry, PLUG_POINTS)
        and not inspect.isabstract(entry)
        and entry.__module__ == module
        and not name.startswith("_")
    )
    return sorted(found, key=lambda entry: entry.__name__)


def catalog(rooms: Sequence[str] = ROOMS) -> str:
    """A line for every plug-in, by room, and under it where it is imported from.

    Raises:
        ValueError: there is no such room; names the nearest.
    """
    for room in rooms:
        if room not in ROOMS:
            raise ValueError(
                f"no room {room!r}, the nearest is {nearest(room, ROOMS)!r}; there are"
                f" {', '.join(ROOMS)}"
            )
    return "\n\n".join("\n".join([room, *map(_line, plugins(room))]) for room in rooms)


def _line(plugin: type) -> str:
    ids = ", ".join(arxiv_ids(plugin))
    line = f"  {plugin.__name__:<24} {summary(plugin)}{f' [{ids}]' if ids else ''}"
    return f"{line}\n      from {plugin.__module__} import {plugin.__name__}"


def _modules(name: str) -> Iterator[str]:
    """A module itself, and if it is a package what is in it."""
    yield name
    path = getattr(importlib.import_module(name), "__path__", [])
    yield from (module.name for module in pkgutil.walk_packages(path, f"{name}."))
