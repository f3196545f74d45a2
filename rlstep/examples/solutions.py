"""Problems with their solutions, from a file: what a policy is to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstep.checks import at_least, named
from rlstep.interfaces import Examples
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.rows import problem_id
from rlstep.tasks.synthetic import solution_samples
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import LabelSamples, Prompt


@dataclass(frozen=True, kw_only=True)
class Solutions(Examples):
    """Every token of a solution is a target with weight 1, the end-of-sequence token included.

    The order is drawn anew in each epoch; the last batch of one may be smaller. Nothing is cut: a
    row that is longer than `longest` is an error.
    """

    makes: ClassVar[type] = LabelSamples

    path: str
    """A file or dataset (see `read_rows`)."""
    evaluation: str = ""
    """Another one, which is held out; '' holds out nothing."""
    problem: str = "problem"
    """The column of the problems."""
    solution: str = "solution"
    """The column of the solutions."""
    template: PromptTemplate = PromptTemplate()
    """What stands around a problem."""
    batch: int = 32
    """Rows of one update."""
    epochs: int = 1
    """Passes over all rows."""
    longest: int = 4096
    """Most tokens of a prompt and its solution."""

    def __post_init__(self) -> None:
        for name in ("path", "problem", "solution"):
            named(f"examples.{name}", getattr(self, name))
        for name in ("batch", "epochs", "longest"):
            at_least(f"examples.{name}", getattr(self, name), 1)

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        rows = list(self._rows(self.path, tokenizer))
        for epoch in range(self.epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(rows))
            for start in range(0, len(rows), self.batch):
                chosen = [rows[i] for i in order[start : start + self.batch]]
                yield _samples(chosen, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples | None:
        if not self.evaluation:
            return None
        return _samples(list(self._rows(self.evaluation, tokenizer)), tokenizer)

    def _rows(self, path: str, tokenizer: Any) -> Iterator[tuple[Prompt, str]]:
        """Raises: ValueError: names the file, its line and the field."""
        encoder = PromptEncoder(self.template, tokenizer)
        for row in read_rows(path):
            problem, solution = row.text(self.problem), row.text(self.solution)
            ids = encoder.problem(problem)
            prompt = Prompt(
                prompt_id=problem_id(problem),
                token_ids=np.array(ids, np.int32),
                text=encoder.decode(ids),
                answer="",
            )
            length = len(ids) + len(tokenizer.encode(solution, add_special_tokens=False)) + 1
            if length > self.longest:
                raise row.error(
                    self.solution,
                    f"makes {length} tokens with its prompt; examples.longest is {self.longest}",
                )
            yield prompt, solution


def _samples(rows: list[tuple[Prompt, str]], tokenizer: Any) -> LabelSamples:
    prompts = [prompt for prompt, _ in rows]
    return solution_samples(prompts, [[solution] for _, solution in rows], tokenizer)
