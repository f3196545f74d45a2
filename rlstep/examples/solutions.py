"""Problems with their solutions, from a file: what a policy is to say."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.checks import named
from rlstep.examples.from_rows import FromRows, LeftOut
from rlstep.examples.prompts import problem_prompt
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.synthetic import solution_samples
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import LabelSamples, Prompt


@dataclass(frozen=True, kw_only=True)
class Solutions(FromRows[tuple[Prompt, str], LabelSamples]):
    """Every token of a solution is a target with weight 1, the end-of-sequence token included."""

    makes: ClassVar[type] = LabelSamples

    problem: str = "problem"
    """The column of the problems."""
    solution: str = "solution"
    """The column of the solutions."""
    template: PromptTemplate = PromptTemplate()
    """What stands around a problem."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("problem", "solution"):
            named(f"examples.{name}", getattr(self, name), "column")

    def items(self, path: str, tokenizer: Any, left_out: LeftOut) -> list[tuple[Prompt, str]]:
        encoder, found = PromptEncoder(self.template, tokenizer), []
        for row in read_rows(path):
            problem, solution = row.text(self.problem), row.text(self.solution)
            prompt = problem_prompt(encoder, self.template, problem)
            own = len(tokenizer.encode(solution, add_special_tokens=False)) + 1
            self.check_length(row, self.solution, len(prompt.token_ids) + own)
            found.append((prompt, solution))
        return found

    def samples(self, items: Seq[tuple[Prompt, str]], tokenizer: Any) -> LabelSamples:
        prompts = [prompt for prompt, _ in items]
        return solution_samples(prompts, [[solution] for _, solution in items], tokenizer)
