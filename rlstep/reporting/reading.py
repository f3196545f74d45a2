"""How a recorded rollout is read by people: colours of its steps, its first error.

Rows are those of rollouts.jsonl, see rows.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

LEVELS = ("bad", "poor", "unsure", "fair", "good")
"""Of a score, from low to high; each a fifth of the scale."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the step scores of one source are read."""

    source: str
    middle: float
    """A step with a lower score is called wrong."""
    reach: float
    """Distance from the middle to either end, above 0."""

    def level(self, score: float) -> str:
        """One of LEVELS."""
        share = (score - self.middle + self.reach) / (2 * self.reach)
        return LEVELS[min(max(int(share * len(LEVELS)), 0), len(LEVELS) - 1)]


def scales(rows: Iterable[Row]) -> dict[str, Scale]:
    """A scale for every source of step scores, by name.

    Scores that all lie in [0, 1] are chances of being right, and 1/2 is their middle. Others are
    read by their sign: implicit rewards, advantages.
    """
    values: dict[str, list[float]] = {}
    for step in (step for row in rows for step in row.get("steps", ())):
        for source, score in step["scores"].items():
            values.setdefault(source, []).append(float(score))
    return {source: _scale(source, found) for source, found in sorted(values.items())}


def _scale(source: str, values: Sequence[float]) -> Scale:
    finite = [value for value in values if abs(value) < float("inf")]
    if all(0.0 <= value <= 1.0 for value in finite):
        return Scale(source=source, middle=0.5, reach=0.5)
    return Scale(source=source, middle=0.0, reach=max(map(abs, finite)))


def main_source(sources: Iterable[str], watched: str) -> str | None:
    """The source that colours steps: the watched one, or else the first by name.

    Args:
        watched: `monitors.source`, whose scores the policy is trained against.
    """
    names = sorted(sources)
    return watched if watched in names else (names or [None])[0]


def first_error(row: Row, scale: Scale | None) -> int | None:
    """Index of the first wrong step, None where there is none, or nothing that could tell.

    What the task's oracle said at the time, where the row has it; otherwise the first step whose
    score is below the middle of the scale.
    """
    if "first_error" in row:
        return row["first_error"]
    if scale is None:
        return None
    for index, step in enumerate(row["steps"]):
        score = step["scores"].get(scale.source)
        if score is not None and float(score) < scale.middle:
            return index
    return None


def who_tells(row: Row, scale: Scale | None) -> str:
    """Whose word `first_error` is."""
    if "first_error" in row:
        return "by the task's own check"
    return f"{scale.source} below {scale.middle:g}" if scale else "no step scores"


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers in order, neighbours together: '1 to 3, 7'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = (f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return ", ".join(words)


def printable(text: str) -> str:
    """The text with control characters written out: a model's text must not steer a terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def by_prompt(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each prompt; first the prompts whose verdicts differ most, where there is
    something to be seen, and wrong ones before right ones."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["prompt_id"], []).append(row)
    right = {name: _right(group) for name, group in groups.items()}
    order = sorted(groups, key=lambda name: (abs(right[name] - 0.5), right[name], name))
    return {name: groups[name] for name in order}


def _right(rows: Sequence[Row]) -> float:
    """The share of the rows that are correct."""
    return sum(row.get("verdict") == "correct" for row in rows) / len(rows)
