"""Math-Shepherd's published step labels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlstep.examples.judged import Judged, JudgedRows
from rlstep.tasks.rows import Row, shown

TAG = "ки"
"""Behind every step of `input`; in `label` a '+' or a '-' stands in its place."""
_FIRST = re.compile(r"\bstep 1:", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class MathShepherd(JudgedRows):
    """Rows of peiyi9979/Math-Shepherd (Wang et al. 2023, arXiv:2312.08935): hard labels.

    `input` is the problem and, from 'Step 1:' on, its solution, the tag ' ки' behind each step;
    `label` is the same with '+' (some continuation of the step was right) or '-' for each tag. Rows
    with a tag inside the problem, or without a 'Step 1:', are left out and counted.

    For the released model's own form: `layout=MathShepherdLayout()`, a 'two_token' head.
    """

    @property
    def column(self) -> str:
        return "input"

    def why_not(self, row: Row) -> str:
        first = row.text("input").partition(TAG)[0]
        return "" if _FIRST.search(first) else "no 'Step 1:' stands before the first tag"

    def judged(self, row: Row) -> tuple[str, list[Judged]]:
        *pieces, rest = row.text("input").split(TAG)
        if rest.strip() or not pieces:
            raise row.error("input", f"ends with {shown(rest)}; a step ends with the tag ' {TAG}'")
        start = _FIRST.search(pieces[0])
        assert start is not None, "why_not has looked"
        problem, pieces[0] = pieces[0][: start.start()], pieces[0][start.start() :]
        if not problem.strip():
            raise row.error("input", "has no problem before 'Step 1:'")
        signs = self._signs(row, len(problem), pieces)
        steps = [piece.strip() for piece in pieces]
        if "" in steps:
            raise row.error("input", f"its step {steps.index('') + 1} is empty")
        solution = Judged(
            steps=self.ended(steps, whole=True),
            targets=tuple(float(sign == "+") for sign in signs),
            weights=(1.0,) * len(steps),
        )
        return problem.strip(), [solution]

    def _signs(self, row: Row, at: int, pieces: list[str]) -> list[str]:
        """What stands in `label` where `input` has a tag, its first piece beginning at `at`."""
        label, signs = row.text("label"), []
        for number, piece in enumerate(pieces, 1):
            at += len(piece)
            sign = label[at : at + 1]
            if label[at - len(piece) : at] != piece or sign not in ("+", "-"):
                raise row.error(
                    "label",
                    f"is not 'input' with '+' or '-' for its tags: at the end of step {number} it"
                    f" reads {shown(label[max(0, at - 12) : at + 1])}",
                )
            signs.append(sign)
            at += 1
        return signs
