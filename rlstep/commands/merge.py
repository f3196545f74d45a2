"""`rlstep merge BASE MODEL ...`: models that were fine-tuned from one base, made one."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rlstep.commands.catalog import plugins, summary
from rlstep.commands.words import Words, nearest
from rlstep.interfaces import Merger
from rlstep.merging.merge import Merge, prepared, write
from rlstep.merging.models import ModelFolder
from rlstep.merging.task_arithmetic import TaskArithmetic
from rlstep.merging.task_vectors import cosines
from rlstep.reporting.merged_card import sign_merged
from rlstep.running.exports import check_free, writing


def main(words: Sequence[str]) -> None:
    """Write the folder, and print what was merged and where it is. Nothing is started.

    Raises:
        ValueError: no such method, an option that it lacks, models that are not alike, or a folder
            that exists; names the nearest, or what differs.
        DiskFull: there is no room for it.
    """
    method, given = _arguments(words)
    target = Path(given.out)
    check_free(target)
    merger = method(**{f.name: _given(given, f) for f in dataclasses.fields(method)})
    merge = prepared(merger, ModelFolder(given.base), [ModelFolder(p) for p in given.models])
    with writing(target, 4 * merge.numbers) as folder:
        write(merge, folder)
        sign_merged(folder, target.name, merger, given.base, given.models)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(*_told(merger, merge), sep="\n")
    print(f"{merge.numbers:,} weights in float32, {size:,} bytes: {target}")


def _arguments(words: Sequence[str]) -> tuple[type[Any], argparse.Namespace]:
    """The method, and what is given for it: its own fields are options."""
    methods = {kind.__name__: kind for kind in plugins("merging")}
    first = Words(prog="rlstep merge", add_help=False)
    first.add_argument("--method", default=TaskArithmetic.__name__)
    name = first.parse_known_args(words)[0].method
    if name not in methods:
        raise ValueError(
            f"merge: --method is {name!r}, the nearest is {nearest(name, methods)!r}; there are"
            f" {', '.join(methods)}"
        )
    method = methods[name]
    parser = Words(
        prog="rlstep merge",
        description="Models that were fine-tuned from one base, made one, for transformers and"
        f" vLLM. {name}: {summary(method)}",
    )
    parser.add_argument("base", metavar="BASE", help="the folder of the model they began as")
    parser.add_argument("models", metavar="MODEL", nargs="+", help="folders of what became of it")
    parser.add_argument("--out", required=True, help="the folder to write")
    parser.add_argument("--method", metavar="NAME", help=", ".join(methods))
    for field in dataclasses.fields(method):
        several = isinstance(field.default, tuple)
        usual = field.default if isinstance(field.default, tuple) else (field.default,)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=field.name,
            type=type(usual[0]),
            default=field.default,
            nargs="+" if several else None,
            help=f"{' '.join(map(str, usual))} without it",
        )
    return method, parser.parse_args(words)


def _given(given: argparse.Namespace, field: dataclasses.Field[Any]) -> Any:
    value = getattr(given, field.name)
    return tuple(value) if isinstance(field.default, tuple) else value


def _told(merger: Merger, merge: Merge) -> list[str]:
    """How long the task vectors are, and how far apart, before and after."""
    before, lengths = cosines(merge.products)
    after, left = cosines(merge.mixed)
    paths = [model.path for model in merge.models]
    return [
        f"{merger}",
        *(
            f"task vector of {path}: length {long:.4g}, {short:.4g} of it goes in"
            for path, long, short in zip(paths, lengths, left, strict=True)
        ),
        *(
            f"cosine of {paths[i]} and {paths[j]}: {before[i, j]:.4f}, {after[i, j]:.4f} merged"
            for i, j in combinations(range(len(paths)), 2)
        ),
    ]
