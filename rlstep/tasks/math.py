"""MATH: competition problems with LaTeX answers (Hendrycks et al. 2021, arXiv:2103.03874)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlstep.scoring.answers.extraction import last_boxed
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.rows import Row

_WITHOUT_BRACES = re.compile(r"\\boxed\s+([^\s${}]+)")


@dataclass(frozen=True, kw_only=True)
class Math(Jsonl):
    r"""Rows of `problem` and `answer`, or of `problem` and a `solution` that ends in `\boxed{}`."""

    prompt_column: str = "problem"
    example_column: str = "solution"
    solution_column: str = "solution"
    r"""Where rows have no answer column, the reference is what the last `\boxed{}` here holds."""

    def reference(self, row: Row) -> str | None:
        if self.answer_column in row.values:
            return super().reference(row)
        if row.value(self.solution_column) is None:
            return None
        solution = row.text(self.solution_column)
        boxed = last_boxed(solution) or "".join(_WITHOUT_BRACES.findall(solution)[-1:])
        if not boxed.strip():
            raise row.error(self.solution_column, "has no \\boxed{} reference answer")
        return boxed.strip()
