"""Makes the policy that the reasoning-gym recipe begins with, from solutions of mixed quality.

rlstep sft recipes/reasoning_gym_sft.py          in <run>/export; the shipped one is made so
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from reasoning_gym_grpo import TASK
from reasoning_gym_worked import sft_samples
from sft_base import RandomLlama, drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.types import LabelSamples

UPDATES = 1200


@dataclass(frozen=True, kw_only=True)
class Worked(Examples):
    """Fresh solutions for every batch. No problem is one of the task's evaluation."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 96
    """Solutions of one update."""
    sloppy: float = 0.65
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""
    problems: int = 16_384

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        rng = np.random.default_rng(seed)
        made = replace(TASK, train=self.problems).load(tokenizer, 64).train
        problems = [made[i] for i in rng.permutation(len(made))]
        for chosen in drawn(problems, self.batch, self.updates):
            yield sft_samples(chosen, rng, self.sloppy, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        problems = replace(TASK, train=0).load(tokenizer, 64).evaluation
        return sft_samples(problems, np.random.default_rng(0), self.sloppy, tokenizer)


def config() -> FitConfig:
    start = RandomLlama(tokenizer="reasoning_gym_worked.reasoning_gym_tokenizer", vocab_size=128)
    return made_policy("reasoning-gym-sft", Worked(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
