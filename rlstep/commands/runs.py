"""`rlstep runs`: the ledger of all runs. It reads what they left, and starts and writes nothing.

rlstep runs list                    a line a run
rlstep runs show RUN                what it is made of, and how well it did
rlstep runs diff RUN RUN            the fields in which two differ
rlstep runs lineage RUN_OR_MODEL    what a model came from, as far back as runs are here
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlstep.commands.show import root
from rlstep.commands.words import Words, nearest
from rlstep.reporting.card import LINEAGE, data_lines, describe, figure_rows, parent_lines
from rlstep.reporting.columns import table
from rlstep.reporting.files import read_json
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.ledger import (
    Exported,
    Figure,
    differences,
    exported,
    figures,
    iterations,
    readable,
    rows,
    started,
    state,
)
from rlstep.reporting.origins import name_of, short
from rlstep.reporting.reading import printable
from rlstep.reporting.recorded_run import RecordedRun
from rlstep.reporting.run_directory import find_run, run_of

VERBS = {"list": 0, "show": 1, "diff": 2, "lineage": 1}
"""With how many runs each is asked."""
_HEAD = ("run", "started (UTC)", "recipe", "iterations", "before", "after", "state")


def main(words: Sequence[str]) -> None:
    """Print what is asked for.

    Raises:
        ValueError: no such verb, run or model, or one that cannot be read; names the nearest.
    """
    verb, *rest = words or [""]
    if verb in VERBS:
        parser = Words(prog=f"rlstep runs {verb}", description=__doc__)
        what = "RUN_OR_MODEL" if verb == "lineage" else "RUN"
        if VERBS[verb]:
            parser.add_argument("runs", metavar=what, nargs=VERBS[verb], help="its name or folder")
        parser.add_argument("--run-dir", default="", help="where runs are kept; or RLSTEP_RUN_DIR")
        given = parser.parse_args(rest)
        lines = {"list": _list, "show": _show, "diff": _diff, "lineage": _lineage}[verb](given)
        print(printable("\n".join(lines)))
    elif {"-h", "--help"} & set(words):
        print(__doc__)
    else:
        said = f"no verb {verb!r}; the nearest is {nearest(verb, VERBS)!r}" if verb else "no verb"
        raise ValueError(f"runs: {said}; there are {', '.join(VERBS)}")


# --- list, show, diff ----------------------------------------------------------------------------


def _list(given: argparse.Namespace) -> Iterator[str]:
    found = rows(root(given))
    if not found:
        raise ValueError(
            f"runs list: there is no run in {root(given)}; --run-dir or RLSTEP_RUN_DIR says where"
            " runs are kept"
        )
    yield from table(
        _HEAD,
        [
            (
                r.name,
                r.when,
                r.recipe,
                r.iterations,
                r.before,
                r.after,
                _state_of(r.state, r.problem),
            )
            for r in found
        ],
    )


def _state_of(state: str, problem: str) -> str:
    return f"{state}: {problem}" if problem else state


def _show(given: argparse.Namespace) -> Iterator[str]:
    run = RecordedRun.read(find_run(given.runs[0], root(given)))
    lineage = describe(run, iterations(run), {})
    yield f"run {run.directory.name}, {state(run)}, started {started(run)}"
    yield f"recipe {lineage['recipe'] or 'unknown'}"
    code = lineage["code"]
    yield f"code rlstep {code['rlstep'] or 'unknown'}, commit {code['commit'] or 'unknown'}"
    yield ""
    yield from table(("figure", "value"), list(figure_rows(lineage)))
    yield ""
    yield from table(
        ("part", "method", "papers", "about"),
        [
            (m["part"], m["class"], ", ".join(m["papers"]) or "-", m["about"])
            for m in lineage["methods"]
        ],
    )
    yield from ("", "data", *_indented(data_lines(lineage["data"])))
    yield from ("", "parents", *_indented(parent_lines(lineage["parents"])))
    yield from ("", "models", *_indented(_models(run)))


def _models(run: RecordedRun) -> Iterator[str]:
    written = list(run.directory.models)
    # The best policy may be the last one, too.
    yield from dict.fromkeys(map(_model, written))
    if not written:
        folders = [run.directory.export, *run.directory.path.glob("exports/iteration-*")]
        any_weights = any(next(folder.glob("*.safetensors"), None) for folder in folders)
        yield "unknown: exported before models had hashes" if any_weights else "none exported"


def _model(line: Mapping[str, Any]) -> str:
    which = f"{line['source']} of " if "source" in line else ""
    return f"{which}iteration {line['iteration']}, sha256 {line['sha256']}"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line.replace('`', '')}" for line in lines)


def _diff(given: argparse.Namespace) -> Iterator[str]:
    first, second = (RecordedRun.read(find_run(name, root(given))) for name in given.runs)
    changes = differences(first, second)
    if not changes:
        yield "no field differs but the name"
        return
    head = ("field", first.directory.name, second.directory.name)
    yield from table(head, [(c.field, c.first, c.second) for c in changes])


# --- lineage -------------------------------------------------------------------------------------


def _lineage(given: argparse.Namespace) -> Iterator[str]:
    tree, asked = _Tree(exported(readable(root(given)))), given.runs[0]
    folder = Path(asked).expanduser()
    if folder.is_dir() and any(folder.glob("*.safetensors")):
        yield from tree.of_folder(folder)
        return
    run = RecordedRun.read(find_run(asked, root(given)))
    yield from tree.of_run(run, iterations(run), {}, 0)


@dataclass
class _Tree:
    """Lines of a model's ancestors, each generation further in."""

    known: dict[str, list[Exported]]
    """What runs wrote, by hash."""
    told: set[str] = field(default_factory=set)
    """Hashes whose ancestors stand above."""

    def of_folder(self, folder: Path) -> Iterator[str]:
        """Of a model, wherever it lies."""
        sha256 = hash_weights(folder)
        yield f"model {name_of(str(folder))}, sha256 {sha256[:12]}"
        said = read_json(folder / LINEAGE) if (folder / LINEAGE).is_file() else {}
        if said.get("sha256") not in (None, sha256):
            yield (
                f"  its {LINEAGE} is of other weights ({short(said)}): they were changed after the"
                " export"
            )
        elif "merged" in said:
            yield f"  merged by {said['merged']['method']}"
            yield from self._parents(said["parents"], 1)
            return
        elif said and sha256 not in self.known:
            recipe, data, parents = (said.get(part) for part in ("recipe", "data", "parents"))
            yield f"  made by run {said.get('run')}, which is not here; its {LINEAGE} says:"
            yield from self._made_of(recipe, data, parents, 1)
            return
        elif sha256 not in self.known and (run := run_of(str(folder), folder)):
            yield f"  it lies in run {run.name}, which kept no hash of it:"
            kept = RecordedRun.read(run)
            yield from self.of_run(kept, iterations(kept), {}, 1)
            return
        yield from self._of_hash(sha256, 1)

    def of_run(
        self, run: RecordedRun, iteration: int, versions: dict[str, int], depth: int
    ) -> Iterator[str]:
        """Of what a run had made by an iteration."""
        measured = figures(run, iteration)
        before, after = measured or (None, None)
        numbers = "".join(f", {name} version {number}" for name, number in versions.items())
        yield (
            f"{_in(depth)}run {run.directory.name}, iteration {iteration}{numbers},"
            f" {_step(before, after)}"
        )
        kept = run.versions
        yield from self._made_of(kept.get("recipe"), kept.get("data"), kept.get("models"), depth)

    def _of_hash(self, sha256: str, depth: int) -> Iterator[str]:
        makers = self.known.get(sha256, [])
        if not makers:
            yield f"{_in(depth)}no run here made it"
            return
        if sha256 in self.told:
            yield f"{_in(depth)}by run {makers[0].run.directory.name}, see above"
            return
        self.told.add(sha256)
        made = makers[0]
        yield from self.of_run(made.run, made.iteration, dict(made.versions), depth)
        if others := ", ".join(other.run.directory.name for other in makers[1:]):
            yield f"{_in(depth)}the same weights were made by {others}"

    def _made_of(self, recipe: Any, data: Any, parents: Any, depth: int) -> Iterator[str]:
        inner = _in(depth + 1)
        yield f"{inner}recipe {recipe or 'unknown'}"
        lines = (line.removeprefix("* ").replace("`", "") for line in data_lines(data))
        yield from (f"{inner}data {line}" for line in lines)
        if not parents:
            yield f"{inner}parents {next(parent_lines(parents))}"
            return
        yield from self._parents(parents, depth + 1)

    def _parents(self, parents: Mapping[str, Any], depth: int) -> Iterator[str]:
        for role, entry in parents.items():
            why = f" ({entry['unknown']})" if "unknown" in entry else ""
            yield f"{_in(depth)}{role} from {entry['name']}, sha256 {short(entry)}{why}"
            if "sha256" in entry:
                yield from self._of_hash(entry["sha256"], depth + 1)


def _in(depth: int) -> str:
    return "  " * depth


def _step(before: Figure | None, after: Figure | None) -> str:
    return f"{before} -> {after}" if before and after else "not measured"
