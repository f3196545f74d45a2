"""The words of a command line: one that is refused is a line that names the nearest valid one."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from rlstep.benchmarks.benchmark_config import Recipe

AnyConfig = TypeVar("AnyConfig", bound=Recipe)

_RULE = re.compile(r"│ ─+ │|╰─+╯")
_FLAG = re.compile(r"--[a-z][\w.-]*")


def nearest(word: str, known: Iterable[str]) -> str:
    """Of the known words (at least one) the one that is written most alike."""
    return difflib.get_close_matches(word, list(known), 1, 0.0)[0]


class Words(argparse.ArgumentParser):
    """A parser whose refusals are a ValueError. An option is written out: a beginning is none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(_unknown(unknown, _FLAG.findall(self.format_usage())))
        return given

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split())
        raise ValueError(f"{self.prog.removeprefix('rlstep ')}: {message}; {usage}")


def _unknown(words: Sequence[str], flags: Sequence[str]) -> str:
    """What is wrong with the first word that nothing takes; a flag goes first."""
    word = next((word for word in words if word.startswith("-")), words[0])
    if not word.startswith("-"):
        return f"{word!r} stands behind no option that takes it"
    name = word.partition("=")[0]
    # `--learning-rate` is meant to be the field of that name, wherever it stands.
    last = [flag for flag in flags if flag.endswith("." + name.lstrip("-"))]
    hint = f"; the nearest is {last[0] if last else nearest(name, flags)}" if flags else ""
    return f"there is no option {name}{hint}"


def configured(written: AnyConfig, arguments: Sequence[str], prog: str | None) -> AnyConfig:
    """The recipe's configuration with the fields that are given as `--FIELD VALUE`.

    `--help` prints all of them and ends the process.

    Raises:
        ValueError: an option or value is refused; names the option, and the nearest or a valid one.
    """
    try:
        config, unknown = _parsed(written, arguments, prog)
    except _Refused as error:
        fields = dict(options(written))
        flag = next((word for word in _FLAG.findall(str(error)) if word in fields), "")
        own = f"; the recipe's own is {_as_given(fields[flag])}" if flag else ""
        raise ValueError(f"{str(error).rstrip('.')}{own}") from error
    if unknown:
        raise ValueError(f"{no_option(written, unknown)}; {prog or sys.argv[0]} --help has all")
    return config


def no_option(written: Recipe, unknown: Sequence[str]) -> str:
    """What is wrong with words that are no options of a recipe's configuration."""
    flags = [flag for flag, _ in options(written)]
    name = unknown[0].partition("=")[0]
    inside = [flag for flag in flags if flag.startswith(f"{name}.")]
    if inside or hasattr(written, name[2:].replace("-", "_")):
        changed = f"; what can be changed of it is {', '.join(inside)}" if inside else ""
        return f"{name} is made in the recipe, and no option{changed}"
    return _unknown(unknown, ["--dry-run", *flags])


class _Refused(ValueError):
    """What tyro said, in one line."""


def _parsed(
    written: AnyConfig, arguments: Sequence[str], prog: str | None
) -> tuple[AnyConfig, list[str]]:
    """The configuration, and the words that are none of its options."""
    import tyro

    helping = bool({"-h", "--help"} & set(arguments))
    columns, box = os.environ.get("COLUMNS"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        with ExitStack() as stack:
            if not helping:
                os.environ["COLUMNS"] = "100000"  # or else lines of the box break anywhere
                stack.enter_context(redirect_stderr(box))
                stack.enter_context(redirect_stdout(box))  # whose encoding draws the box
            found = tyro.cli(
                type(written),
                prog=prog,
                default=written,
                args=list(arguments),
                config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands),
                return_unknown_args=True,
            )
    except SystemExit as end:
        if helping:
            raise
        raise _Refused(_said(_text(box))) from end
    finally:
        os.environ.pop("COLUMNS", None)
        os.environ.update({"COLUMNS": columns} if columns else {})
    print(_text(box), end="", file=sys.stderr)
    return found


def _text(file: io.TextIOWrapper) -> str:
    file.seek(0)
    return file.read()


def _said(box: str) -> str:
    """Of a box with a title the lines up to its first rule, as one."""
    lines: list[str] = []
    for line in box.splitlines()[1:]:
        if _RULE.fullmatch(line):
            break
        lines.append(line.strip(" │"))
    return re.sub(r"^Error parsing (Fit|Benchmark)?Config: ", "", " ".join(lines))


def options(value: Any, name: str = "", hint: Any = None) -> Iterator[tuple[str, Any]]:
    """The options that tyro makes of a configuration, with their values.

    What could hold plug-ins or settings of its own, and holds none, is no option.
    """
    inside: Iterable[tuple[str, Any]]
    if dataclasses.is_dataclass(value):
        hints = get_type_hints(type(value))
        for f in dataclasses.fields(value):
            part = f"{name}.{f.name}" if name else f.name
            yield from options(getattr(value, f.name), part, hints[f.name])
        return
    elif isinstance(value, Mapping) and value:
        inside = value.items()
    elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        inside = [(str(index), entry) for index, entry in enumerate(value)]
    elif _empty(value, hint):
        return
    else:
        yield f"--{name.replace('_', '-')}", value
        return
    for part, entry in inside:
        yield from options(entry, f"{name}.{part}")


def _empty(value: Any, hint: Any) -> bool:
    """Whether it could hold a part with options of its own, and holds none."""
    if value is None:
        return any(map(dataclasses.is_dataclass, get_args(hint)))
    return value == () and get_args(hint)[0] not in (str, int, float)


def _as_given(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "''"
