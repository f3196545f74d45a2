"""Makes the base of the joint policy: supervised training on worked solutions of both tasks.

rlstep sft recipes/both_sft.py          in <run>/export; the shipped one is made so
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from both_base import LEVELS, TASKS
from sft_base import RandomLlama, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks import arithmetic, logic
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples

UPDATES = 2000
WORKED = {"arithmetic": arithmetic.worked_solution, "logic": logic.worked_solution}


@dataclass(frozen=True, kw_only=True)
class Worked(Examples):
    """Fresh solutions for every batch, of every level.

    The first quarter has the easiest level of each alone: its steps are learnt sooner.
    """

    makes: ClassVar[type] = LabelSamples

    tasks: tuple[str, ...] = ("arithmetic", "logic", "logic")
    """Of which task each part of a batch is: logic takes longer to be learnt."""
    updates: int = UPDATES
    batch: int = 96
    """Solutions of one update."""
    sloppy: float = 0.7
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""
    problems: int = 8_000
    """Of each level."""

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        rng = np.random.default_rng(seed)
        made = {
            name: [
                replace(level, train=self.problems, evaluation=0).load(tokenizer, 64).train
                for level in LEVELS[name]
            ]
            for name in dict.fromkeys(self.tasks)
        }
        for update in range(self.updates):
            prompts, solutions = [], []
            for name in self.tasks:
                known = made[name][:1] if update < self.updates // 4 else made[name]
                for level in rng.integers(len(known), size=self.batch // len(self.tasks)):
                    prompts.append(known[level][rng.integers(self.problems)])
                    solutions.append(WORKED[name](prompts[-1], rng, self.sloppy))
            yield solution_samples(prompts, solutions, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        rng = np.random.default_rng(0)
        prompts, solutions = [], []
        for name in dict.fromkeys(self.tasks):
            found = replace(TASKS[name], train=0, evaluation=256).load(tokenizer, 64).evaluation
            prompts += found
            solutions += [WORKED[name](prompt, rng, self.sloppy) for prompt in found]
        return solution_samples(prompts, solutions, tokenizer)


def config() -> FitConfig:
    start = RandomLlama(
        tokenizer="both_base.both_tokenizer", intermediate_size=256, layers=4, vocab_size=144
    )
    return made_policy("both-sft", Worked(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
