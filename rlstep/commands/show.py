"""`rlstep show RUN`: rollouts in the terminal, their steps coloured by score.

With `--evaluation` what it wrote for the held-out problems, in place of what it was trained on.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlstep.commands.words import Words
from rlstep.reporting.reading import (
    Row,
    Scale,
    by_prompt,
    first_error,
    main_source,
    printable,
    scales,
    spans,
    who_tells,
)
from rlstep.reporting.recorded_run import RecordedRun
from rlstep.reporting.run_directory import default_root, find_run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PROMPTS = 2
"""Prompts of an iteration that are shown where none is named."""

COLOURS = {
    "bad": "bold red",
    "poor": "red",
    "unsure": "yellow",
    "fair": "green",
    "good": "bold green",
}


def arguments(command: str, about: str) -> Words:
    """A parser of what every command about a run is given."""
    parser = Words(prog=f"rlstep {command}", description=about)
    parser.add_argument("run", metavar="RUN", help="a run's name, or its folder")
    parser.add_argument("--run-dir", default="", help="where runs are kept; or RLSTEP_RUN_DIR")
    return parser


def root(given: argparse.Namespace) -> Path:
    """Where runs are looked for by name."""
    return Path(given.run_dir).expanduser() if given.run_dir else default_root()


def main(words: Sequence[str], console: Console | None = None) -> None:
    """Print rollouts of a run.

    Raises:
        ValueError: no such run, iteration or prompt; names the nearest.
    """
    from rich.console import Console

    parser = arguments("show", "Rollouts of a run, their steps coloured by score.")
    parser.add_argument("--iteration", type=int, help="the last one without it")
    parser.add_argument("--prompt", help="a prompt's id: all of its rollouts")
    about = "what it wrote for held-out problems, after an iteration; 0 is before the first"
    parser.add_argument("--evaluation", action="store_true", help=about)
    given = parser.parse_args(words)
    run = RecordedRun.read(find_run(given.run, root(given)))
    kept = _evaluations(run) if given.evaluation else _rollouts(run)
    iteration, rows = _chosen(kept, given.iteration, given.prompt)
    _print(console or Console(highlight=False), run, iteration, rows, given.prompt)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What there is to choose from."""

    path: Path
    what: str
    iterations: Sequence[int]
    of: Callable[[int], Iterable[Row]]


def _rollouts(run: RecordedRun) -> _Kept:
    path = run.directory.path
    if not run.trained:
        hint = "; --evaluation shows what it was evaluated on" if run.evaluated else ""
        raise ValueError(f"{path} has no rollouts: it trained no iteration{hint}")
    return _Kept(path=path, what="rollouts", iterations=run.trained, of=run.rollouts)


def _evaluations(run: RecordedRun) -> _Kept:
    path = run.directory.path
    if not run.evaluated:
        raise ValueError(f"{path} has no evaluated completions: it was not evaluated")
    return _Kept(path=path, what="evaluations", iterations=run.evaluated, of=run.evaluations)


def _chosen(kept: _Kept, iteration: int | None, prompt: str | None) -> tuple[int, list[Row]]:
    """An iteration's number and rows: the last one that has the prompt, or the one named."""
    known = kept.iterations
    if iteration is not None and iteration not in known:
        near = min(known, key=lambda number: abs(number - iteration))
        raise ValueError(
            f"--iteration is {iteration}; {kept.path} has {kept.what} of iterations"
            f" {spans(known)}, the nearest is {near}"
        )
    seen: dict[str, int] = {}
    for number in reversed(known) if iteration is None else [iteration]:
        rows = list(kept.of(number))
        if prompt is None or any(row["prompt_id"] == prompt for row in rows):
            return number, rows
        seen |= {row["prompt_id"]: number for row in rows if row["prompt_id"] not in seen}
    assert prompt is not None
    near = difflib.get_close_matches(prompt, seen, 1, 0.0)[0]
    place = "the run" if iteration is None else f"iteration {iteration}"
    raise ValueError(
        f"--prompt is {prompt!r}, which is not among the {len(seen)} prompts of {place}; the"
        f" nearest is {near!r} (iteration {seen[near]})"
    )


def _print(
    console: Console, run: RecordedRun, iteration: int, rows: list[Row], prompt: str | None
) -> None:
    groups = by_prompt(rows)
    shown = [prompt] if prompt is not None else list(groups)[:PROMPTS]
    by_source = scales(rows)
    source = main_source(by_source, run.watched)
    scale = by_source[source] if source else None
    line = (
        f"run {run.directory.name}, iteration {iteration}: {_counted(rows)}, {len(groups)} prompts"
    )
    console.print(line, markup=False, soft_wrap=True)
    if scale:
        console.print(_legend(scale), soft_wrap=True)
    for name in shown:
        _print_group(console, name, groups[name], scale)
    rest = [printable(name) for name in groups if name not in shown]
    if rest and prompt is None:
        line = f"\n{len(rest)} more of its prompts by --prompt ID, such as {rest[0]!r}"
        console.print(line, markup=False, soft_wrap=True)


def _counted(rows: Sequence[Row]) -> str:
    rollouts = [row for row in rows if "failure" not in row]
    right = sum(row["verdict"] == "correct" for row in rollouts)
    failed = len(rows) - len(rollouts)
    return f"{right} of {len(rollouts)} rollouts correct" + (f", {failed} failed" if failed else "")


def _legend(scale: Scale) -> Text:
    from rich.text import Text

    legend = Text(f"step scores of {scale.source}: ")
    low, high = scale.middle - scale.reach, scale.middle + scale.reach
    legend.append(f"{low:g} bad", COLOURS["bad"]).append(", ")
    legend.append(f"{scale.middle:g} unsure", COLOURS["unsure"]).append(", ")
    return legend.append(f"{high:g} good", COLOURS["good"])


def _print_group(console: Console, name: str, rows: Sequence[Row], scale: Scale | None) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(f"prompt {printable(name)}: {_counted(rows)}", "bold"), soft_wrap=True)
    first = next((row for row in rows if "prompt" in row), None)
    if first is not None:
        console.print(Text(_indented(first["prompt"].rstrip(), "  | "), "dim"))
        console.print(Text(f"  reference {printable(str(first['reference']))}"), soft_wrap=True)
    for row in rows:
        if "failure" in row:
            console.print(Text(f"\n  failed: {printable(row['failure'])}", "magenta"))
        else:
            _print_rollout(console, row, scale)


def _print_rollout(console: Console, row: Row, scale: Scale | None) -> None:
    from rich.text import Text

    verdict = row["verdict"] or "not verified"
    colour = "green" if verdict == "correct" else "red"
    head = Text("\n  ").append(verdict, f"bold {colour}")
    head.append(f"  answer {printable(str(row['answer'] or '-'))}  {printable(row['rollout_id'])}")
    if row["finish_reason"] == "length":
        head.append("  cut at its length limit", "magenta")
    for source, value in (row["scores"] | row["failures"]).items():
        head.append(f"  {source} {printable(str(value))}", "dim")
    console.print(head, soft_wrap=True)
    error = first_error(row, scale)
    _print_observed(console, row)
    for index, step in enumerate(row["steps"]):
        console.print(_step(step, scale, index))
        if index == error:
            console.print(Text(f"{'':13}^ first error ({who_tells(row, scale)})", "bold magenta"))
        _print_observed(console, step)


def _print_observed(console: Console, row: Row) -> None:
    """What the policy did not say, behind a mark of its own: after a step, or before the first."""
    from rich.text import Text

    if observed := row.get("observed", "").strip("\n"):
        console.print(Text(_indented(observed, f"{'observed':>11} < "), "dim italic"))


def _step(step: Row, scale: Scale | None, index: int) -> Text:
    from rich.text import Text

    score = step["scores"].get(scale.source) if scale else None
    colour = COLOURS[scale.level(float(score))] if scale and score is not None else ""
    number = "-" if score is None else f"{float(score):.3f}"
    line = Text(f"  {index + 1:>3} ")
    line.append(f"{number:>6}", colour).append("  ")
    text = _indented(step["text"].rstrip("\n"), " " * 13).removeprefix(" " * 13)
    return line.append(text, colour)


def _indented(text: str, margin: str) -> str:
    return "\n".join(margin + line for line in printable(text).split("\n"))
