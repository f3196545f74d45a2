"""Makes the policy that the logic recipe begins with, from worked solutions of mixed quality.

rlstep sft recipes/logic_sft.py          in <run>/export; the shipped one is made so
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from logic_process_grpo import TASK
from sft_base import RandomLlama, drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.logic import worked_solution
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples

UPDATES = 2400


@dataclass(frozen=True, kw_only=True)
class Worked(Examples):
    """Fresh solutions for every batch.

    The first third has two premises a problem: to find the next of two is learnt much sooner.
    """

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 96
    """Solutions of one update."""
    sloppy: float = 0.65
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""
    problems: int = 50_000

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        rng = np.random.default_rng(seed)
        task = replace(TASK, train=self.problems, evaluation=0)
        for premises, updates in (
            (2, self.updates // 3),
            (TASK.premises, self.updates - self.updates // 3),
        ):
            problems = replace(task, premises=premises).load(tokenizer, 64).train
            for chosen in drawn(problems, self.batch, updates):
                solutions = [worked_solution(prompt, rng, self.sloppy) for prompt in chosen]
                yield solution_samples(chosen, solutions, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        rng = np.random.default_rng(0)
        problems = replace(TASK, train=1).load(tokenizer, 64).evaluation
        solutions = [worked_solution(prompt, rng, self.sloppy) for prompt in problems]
        return solution_samples(problems, solutions, tokenizer)


def config() -> FitConfig:
    start = RandomLlama(
        tokenizer="rlstep.tasks.logic.logic_tokenizer",
        intermediate_size=256,
        layers=4,
        vocab_size=128,
    )
    return made_policy("logic-sft", Worked(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
