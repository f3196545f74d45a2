"""`rlstep eval --compare A B ...`: evaluations side by side, problem by problem.

It reads what `rlstep eval` or a training run wrote of its last evaluation, and starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

from rlstep.commands.show import root
from rlstep.commands.words import Words
from rlstep.measuring.paired import Difference, Flipped, flipped, paired_bootstrap
from rlstep.measuring.sampled import ACCURACY, SampledProblem, problem_rates
from rlstep.reporting.columns import table
from rlstep.reporting.evaluated import title
from rlstep.reporting.files import write_json
from rlstep.reporting.reading import printable
from rlstep.reporting.recorded_run import RecordedRun
from rlstep.reporting.run_directory import find_run
from rlstep.reporting.sample_rows import problems_of

GREEDY = "greedy"
SHOWN = 10
"""Ids of flipped problems that are printed; --json has all."""

Values = dict[str, float]
"""By problem, in [0, 1]."""


def main(words: Sequence[str]) -> None:
    """Print how every further evaluation differs from the first.

    Raises:
        ValueError: no such run, one without an evaluation, or runs without a problem in common.
    """
    parser = Words(prog="rlstep eval --compare", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="names or folders, two or more")
    parser.add_argument("--run-dir", default="", help="where runs are kept; or RLSTEP_RUN_DIR")
    parser.add_argument("--json", default="", help="a file for all of it, with every flipped id")
    given = parser.parse_args(words)
    if len(given.runs) < 2:
        raise ValueError("eval --compare: one run; name at least two, the first is the reference")
    first, *others = (read(find_run(name, root(given))) for name in given.runs)
    found = [each for other in others for each in compared(first, other)]
    print(printable("\n\n".join("\n".join(lines(each)) for each in found)))
    if given.json:
        write_json(Path(given.json), {"comparisons": [asdict(each) for each in found]})


# --- what an evaluation left ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The last evaluation of a run, problem by problem."""

    name: str
    iteration: int
    sets: Sequence[str]
    """Names of further sets."""
    greedy: Values
    sampled: Mapping[str, SampledProblem]
    samples: int
    """Of each problem; 0 where none were drawn."""

    def of_set(self, name: str, prompt_id: str) -> bool:
        """Whether a problem is of a set; '' is the task's own."""
        if name:
            return prompt_id.startswith(f"{name}/")
        return not any(prompt_id.startswith(f"{each}/") for each in self.sets)


def read(directory: Any) -> Evaluated:
    """Raises: ValueError: it has no evaluation."""
    run = RecordedRun.read(directory)
    if not run.evaluated:
        raise ValueError(f"{directory.path} has no evaluated completions: it was not evaluated")
    iteration = run.evaluated[-1]
    greedy = {
        row["prompt_id"]: float(row["verdict"] == "correct")
        for row in run.evaluations(iteration)
        if row.get("verdict")
    }
    problems = problems_of(directory.samples.of_iteration(iteration))
    named = (run.config.get("evaluation") or {}).get("sets") or ()
    return Evaluated(
        name=directory.name,
        iteration=iteration,
        sets=[each["name"] for each in named],
        greedy=greedy,
        sampled={problem.prompt_id: problem for problem in problems},
        samples=max((len(problem.samples) for problem in problems), default=0),
    )


# --- two of them ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure of two evaluations."""

    measure: str
    difference: Difference
    flipped: Flipped


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two evaluations on the problems of one set that both have."""

    first: str
    second: str
    set: str
    problems: int
    only_first: int
    """Problems that the second does not have."""
    only_second: int
    rows: Sequence[Row]


def compared(first: Evaluated, second: Evaluated) -> Iterator[Comparison]:
    """One comparison a set that both have.

    Raises:
        ValueError: they have no problem in common.
    """
    some = False
    for name in ("", *(each for each in first.sets if each in second.sets)):
        ours = {p for p in {*first.greedy, *first.sampled} if first.of_set(name, p)}
        theirs = {p for p in {*second.greedy, *second.sampled} if second.of_set(name, p)}
        if both := sorted(ours & theirs):
            some = True
            yield Comparison(
                first=first.name,
                second=second.name,
                set=name,
                problems=len(both),
                only_first=len(ours - theirs),
                only_second=len(theirs - ours),
                rows=list(_rows(first, second, both)),
            )
    if not some:
        raise ValueError(
            f"{first.name} and {second.name} were evaluated on no problem in common: they are of"
            " other tasks, or other parts of one"
        )


def _rows(first: Evaluated, second: Evaluated, names: Sequence[str]) -> Iterator[Row]:
    yield from _row(GREEDY, first.greedy, second.greedy, names)
    k = min(first.samples, second.samples)
    if not k:
        return
    ours, theirs = _measured(first, names, k), _measured(second, names, k)
    for measure in (each for each in ours if each in theirs):
        each = f"{first.samples}" if first.samples == second.samples else "k"
        name = f"avg@{each}" if measure == ACCURACY else title(measure).replace("k", str(k), 1)
        yield from _row(name, ours[measure], theirs[measure], names)


def _measured(evaluated: Evaluated, names: Sequence[str], k: int) -> dict[str, Values]:
    """By measure what k samples of each problem show."""
    found: dict[str, Values] = {}
    for name in (name for name in names if name in evaluated.sampled):
        for measure, rates in problem_rates(evaluated.sampled[name], [k]).items():
            found.setdefault(measure, {})[name] = float(rates[0])
    return found


def _row(measure: str, first: Values, second: Values, names: Sequence[str]) -> Iterator[Row]:
    """Of the problems that both have a number of, none where there is no such."""
    there = ((p, first[p], second[p]) for p in names if p in first and p in second)
    both = [(p, a, b) for p, a, b in there if not (isnan(a) or isnan(b))]  # too few samples
    if both:
        kept, one, other = (list(column) for column in zip(*both, strict=True))
        difference = paired_bootstrap(one, other)
        yield Row(measure=measure, difference=difference, flipped=flipped(kept, one, other))


# --- as text -------------------------------------------------------------------------------------


def lines(found: Comparison) -> Iterator[str]:
    """A comparison for people; shares in %."""
    which = f" of {found.set}" if found.set else ""
    yield f"{found.second} against {found.first}: {found.problems} problems{which} that both have"
    if found.only_first or found.only_second:
        yield f"left out: {found.only_first} of the first alone, {found.only_second} of the second"
    head = ("", "first", "second", "difference", "95 % interval", "p", "better", "worse")
    yield from table(head, [_cells(row) for row in found.rows])
    for row in found.rows[:1]:
        yield from _ids(f"{row.measure}, right in the second alone", row.flipped.better)
        yield from _ids(f"{row.measure}, right in the first alone", row.flipped.worse)


def _cells(row: Row) -> tuple[str, ...]:
    d = row.difference
    return (
        row.measure,
        f"{100 * d.first:.1f}",
        f"{100 * d.second:.1f}",
        f"{100 * d.value:+.1f}",
        f"{100 * d.low:+.1f} to {100 * d.high:+.1f}",
        f"{d.p_value:.4f}",
        str(len(row.flipped.better)),
        str(len(row.flipped.worse)),
    )


def _ids(what: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"{what}: {', '.join(map(repr, names[:SHOWN]))}{more}"
