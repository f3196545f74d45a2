"""PRM800K's step labels, as they were published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlstep.checks import between
from rlstep.examples.judged import Judged, JudgedRows
from rlstep.tasks.rows import Row, shown

ANSWER = "# Answer"
"""Begins the end of a solution, within its last step."""


@dataclass(frozen=True, kw_only=True)
class _Said:
    """A step's text, and what its labeler said of it."""

    text: str
    target: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Prm800K(JudgedRows):
    """Rows of openai/prm800k (Lightman et al. 2023, arXiv:2305.20050): ratings -1, 0 and 1.

    One sequence is the path that the labeler took: at each step the chosen completion, or one that
    the labeler wrote, which is right. Where nothing was chosen labeling ended (in phase 2 at the
    first error): the path takes the first completion there, the sampled solution's own step, and
    goes no further. Every other completion of a step is a sequence of its own, the path so far and
    that step, which alone has a label. A null rating is no label, nor is that of a step that the
    labeler flagged as not to be decided.

    Left out and counted: problems that their labeler called broken, and, unless they are asked for,
    solutions that served to check the labelers, which many of them rated.
    """

    neutral: float = 1.0
    """The target of a neutral step, rated 0; the paper's own is 1."""
    quality_control: bool = False
    """Whether solutions of the quality control and of the initial screening are taken as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        between("examples.neutral", self.neutral, 0.0, 1.0)

    @property
    def column(self) -> str:
        return "label.steps"

    def why_not(self, row: Row) -> str:
        if row.value("label.finish_reason") == "bad_problem":
            return "the labeler called the problem broken"
        checks = ("is_quality_control_question", "is_initial_screening_question")
        if not self.quality_control and any(row.value(name) for name in checks):
            return "it checks the labelers (examples.quality_control takes it)"
        return ""

    def judged(self, row: Row) -> tuple[str, list[Judged]]:
        steps = row.value(self.column)
        if not isinstance(steps, list):
            raise row.error(self.column, f"{shown(steps)} is no list")
        path: list[_Said] = []
        others: list[Judged] = []
        for number in range(len(steps)):
            taken, rest, goes_on = self._step(row, f"{self.column}.{number}")
            before = [_Said(text=said.text, target=0.0, weight=0.0) for said in path]
            others += [self._solution([*before, said]) for said in rest]
            path += taken
            if not goes_on:
                break
        whole = [self._solution(path)] if path else []
        return row.text("question.problem"), whole + others

    def _step(self, row: Row, at: str) -> tuple[list[_Said], list[_Said], bool]:
        """What the path takes of a step, what else was proposed, and whether the path goes on."""
        completions = row.value(f"{at}.completions") or []
        said = [self._said(row, f"{at}.completions.{i}") for i in range(len(completions))]
        chosen = row.value(f"{at}.chosen_completion")
        if chosen is None and row.value(f"{at}.human_completion") is not None:
            own = _Said(text=row.text(f"{at}.human_completion.text"), target=1.0, weight=1.0)
            return [own], said, True
        if chosen is None:
            return said[:1], said[1:], False
        if not isinstance(chosen, int) or not 0 <= chosen < len(said):
            raise row.error(f"{at}.chosen_completion", f"is {chosen!r} of {len(said)} completions")
        return [said[chosen]], [*said[:chosen], *said[chosen + 1 :]], True

    def _said(self, row: Row, at: str) -> _Said:
        completion: Mapping[str, Any] = row.value(at)
        rating = row.value(f"{at}.rating")
        if rating not in (-1, 0, 1, None):
            raise row.error(f"{at}.rating", f"is {shown(rating)}; it is -1, 0, 1 or null")
        target = self.neutral if rating == 0 else float(rating == 1)
        known = rating is not None and not completion.get("flagged")
        return _Said(text=row.text(f"{at}.text"), target=target, weight=float(known))

    def _solution(self, said: list[_Said]) -> Judged:
        whole = ANSWER in said[-1].text
        return Judged(
            steps=self.ended([each.text for each in said], whole),
            targets=tuple(each.target for each in said),
            weights=tuple(each.weight for each in said),
            whole=whole,
        )
