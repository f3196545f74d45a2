"""Solutions with a label for each step, in a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from rlstep.checks import named
from rlstep.examples.judged import Judged, JudgedRows
from rlstep.tasks.rows import Row, shown


@dataclass(frozen=True, kw_only=True)
class JudgedSteps(JudgedRows):
    """Rows {"problem": "...", "steps": ["...", ...], "labels": [1, 0.5, false, null, ...]}.

    A label is a target in [0, 1], such as the share of correct continuations (Math-Shepherd's soft
    estimate, arXiv:2312.08935), or true or false; null leaves its step without one. There are as
    many labels as steps.
    """

    problem: str = "problem"
    """The column of the problems."""
    steps: str = "steps"
    """The column of the steps' texts, without what ends a step."""
    labels: str = "labels"
    """The column of the labels."""
    weights: str = ""
    """The column of how much each label counts, such as a number of continuations; '' counts every
    label once."""
    whole: bool = True
    """Whether the last step ends its solution. False where annotators stopped at the first
    error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("problem", "steps", "labels"):
            named(f"examples.{name}", getattr(self, name), "column")

    @property
    def column(self) -> str:
        return self.steps

    def judged(self, row: Row) -> tuple[str, list[Judged]]:
        texts = _list(row, self.steps)
        if not texts:
            raise row.error(self.steps, "is empty; a solution has at least one step")
        steps = [row.text(f"{self.steps}.{k}") for k in range(len(texts))]
        labels = _numbers(row, self.labels, len(steps), most=1.0)
        known = [float(label is not None) for label in labels]
        if self.weights:
            counts = _numbers(row, self.weights, len(steps))
            known = [k * (c or 0.0) for k, c in zip(known, counts, strict=True)]
        solution = Judged(
            steps=self.ended(steps, self.whole),
            targets=tuple(label or 0.0 for label in labels),
            weights=tuple(known),
            whole=self.whole,
        )
        return row.text(self.problem), [solution]


def _list(row: Row, column: str) -> list[Any]:
    found = row.value(column)
    if not isinstance(found, list):
        raise row.error(column, f"{shown(found)} is no list")
    return found


def _numbers(row: Row, column: str, steps: int, most: float | None = None) -> list[float | None]:
    """Numbers from 0 on, or nulls, one for each step."""
    found = _list(row, column)
    if len(found) != steps:
        raise row.error(column, f"has {len(found)} entries; the row has {steps} steps")
    for k, number in enumerate(found):
        if number is None:
            continue
        right = isinstance(number, int | float) and isfinite(number) and number >= 0
        if not right or (most is not None and number > most):
            wanted = f"a number in [0, {most:g}]" if most is not None else "a number from 0 on"
            raise row.error(f"{column}.{k}", f"is {shown(number)}; {wanted}, or null")
    return [None if number is None else float(number) for number in found]
