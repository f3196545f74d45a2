"""ProcessBench as it was published, or one's own solutions in its layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlstep.benchmarks.files import files_of
from rlstep.benchmarks.first_errors import FirstErrors
from rlstep.checks import at_least, named
from rlstep.examples.judged import Judged, judged_rollouts
from rlstep.examples.prompts import problem_prompt
from rlstep.interfaces import Case
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.rows import Row, shown
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import Rollout

NO_ERROR = -1
"""The label of a solution without a wrong step."""


@dataclass(frozen=True, kw_only=True)
class ProcessBench(FirstErrors):
    """Rows {"problem": "...", "steps": ["...", ...], "label": 2}, as Qwen/ProcessBench has them.

    Zheng et al. 2024, arXiv:2412.06559: solutions of a dozen models to problems of GSM8K, MATH,
    OlympiadBench and Omni-MATH, whose first errors people marked; the label is the first wrong
    step's index, -1 where there is none. A file is a subset, under its name without the ending:
    the published ones are gsm8k, math, olympiadbench and omnimath. 'id' names a solution, where
    there is one. See `FirstErrors` for the numbers.
    """

    name: str = "process_bench"
    """Of the benchmark; its numbers are told under it."""
    path: str
    """A file (.jsonl, .json or .parquet; '.gz' may follow), or a folder of them."""
    subsets: tuple[str, ...] = ()
    """Only these files of the folder; () takes all."""
    limit: int = 0
    """Only the first so many solutions of each file; 0 takes all."""
    template: PromptTemplate = PromptTemplate()
    """What stands around a problem, as the PRM is used to."""
    end: str = "\n"
    """What ends a step, as the PRM is used to; the last one ends with the end of the sequence."""

    def __post_init__(self) -> None:
        super().__post_init__()
        named("benchmarks.path", self.path, "file, or the folder of files")
        at_least("benchmarks.limit", self.limit, 0)

    def solutions(self, tokenizer: Any) -> list[Case]:
        return [
            case
            for subset, file in self._files().items()
            for case in self._cases(subset, read_rows(str(file), limit=self.limit), tokenizer)
        ]

    def _files(self) -> dict[str, Path]:
        there = files_of(self.path, "benchmarks.path")
        for subset in self.subsets:
            if subset not in there:
                raise ValueError(
                    f"benchmarks.subsets has {subset!r}; {self.path} has {sorted(there)}"
                )
        return {subset: there[subset] for subset in self.subsets} if self.subsets else there

    def _cases(self, subset: str, rows: Sequence[Row], tokenizer: Any) -> list[Case]:
        encoder = PromptEncoder(self.template, tokenizer)
        labels = [self._label(row) for row in rows]
        prompts = [problem_prompt(encoder, self.template, row.text("problem")) for row in rows]
        solutions = [
            (prompt, self._solution(row)) for prompt, row in zip(prompts, rows, strict=True)
        ]
        rollouts = judged_rollouts(solutions, tokenizer)
        return [
            Case(
                subset=subset,
                rollouts=(_named(rollout, subset, row),),
                first_error=None if label == NO_ERROR else label,
            )
            for rollout, row, label in zip(rollouts, rows, labels, strict=True)
        ]

    def _solution(self, row: Row) -> Judged:
        texts = [row.text(f"steps.{k}") for k in range(len(row.value("steps")))]
        nothing = (0.0,) * len(texts)
        last = len(texts) - 1
        steps = tuple(text if k == last else text + self.end for k, text in enumerate(texts))
        return Judged(steps=steps, targets=nothing, weights=nothing)

    def _label(self, row: Row) -> int:
        steps, label = row.value("steps"), row.value("label")
        if not isinstance(steps, list) or not steps:
            raise row.error("steps", f"is {shown(steps)}; it must be a list of at least one step")
        whole = isinstance(label, int) and not isinstance(label, bool)
        if not whole or not NO_ERROR <= label < len(steps):
            raise row.error(
                "label",
                f"is {shown(label)}; it must be the index of one of the {len(steps)} steps, or"
                f" {NO_ERROR} where none is wrong",
            )
        return label


def _named(rollout: Rollout, subset: str, row: Row) -> Rollout:
    own = row.values.get("id") is not None
    name = row.number_or_text("id") if own else f"{row.unit} {row.line}"
    return replace(rollout, rollout_id=f"{subset}/{name}")
