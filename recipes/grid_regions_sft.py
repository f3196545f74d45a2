"""Makes the policy that the region recipe begins with: it often looks at the wrong object.

rlstep sft recipes/grid_regions_sft.py          in <run>/export; the shipped one is made so
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from sft_base import RandomLlama, drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.grid_regions import GridRegions, sft_samples, worked_solution
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples, Prompt

UPDATES = 4800


@dataclass(frozen=True, kw_only=True)
class Looked(Examples):
    """Fresh solutions for every batch, all of them careful at first.

    Of some problems the text is learnt, too: what a cell has to do with those around it is learnt
    sooner from the pictures than from the few tokens of an answer.
    """

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 64
    """Solutions of one update."""
    texts: int = 20
    """Of them with their problem's text."""
    careless: float = 0.65
    """Probability that a solution looks at what comes first (see `worked_solution`)."""
    careful: int = 3200
    """Updates before the first careless solution."""
    problems: int = 40_000

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        problems = GridRegions(train=self.problems, evaluation=0).load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for update, problems_of_it in enumerate(drawn(problems, self.batch, self.updates)):
            chosen = list(problems_of_it)
            careless = self.careless if update >= self.careful else 0.0
            solutions = [worked_solution(prompt, rng, careless) for prompt in chosen]
            for i in range(self.texts):
                chosen[i], solutions[i] = with_text(chosen[i], solutions[i])
            yield solution_samples(chosen, solutions, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        problems = GridRegions(train=1).load(tokenizer, 64).evaluation
        return sft_samples(problems, np.random.default_rng(0), self.careless, tokenizer)


def with_text(prompt: Prompt, solution: list[str]) -> tuple[Prompt, list[str]]:
    """The same, with all of the problem but its first character for the first steps."""
    lines = prompt.text[1:].splitlines(keepends=True)
    return replace(prompt, text=prompt.text[0], token_ids=prompt.token_ids[:1]), lines + solution


def config() -> FitConfig:
    start = RandomLlama(
        tokenizer="rlstep.tasks.grid_regions.grid_regions_tokenizer",
        intermediate_size=192,
        layers=4,
    )
    return made_policy("grid-regions-sft", Looked(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
