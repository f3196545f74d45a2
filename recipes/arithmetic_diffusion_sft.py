"""Makes an arithmetic diffusion policy: supervised by its ELBO on worked solutions.

    rlstep sft recipes/arithmetic_diffusion_sft.py      the policy, in <run>/export

The solutions are of the same mixed quality as those of `arithmetic_sft.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from diffusion_base import TASK, RandomEncoder
from sft_base import drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.arithmetic import sft_samples
from rlstep.types import LabelSamples

UPDATES = 9600


@dataclass(frozen=True, kw_only=True)
class Worked(Examples):
    """Fresh solutions for every batch."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 64
    """Solutions of one update."""
    sloppy: float = 0.65
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""
    problems: int = 16_000

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        problems = replace(TASK, train=self.problems, evaluation=0).load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for chosen in drawn(problems, self.batch, self.updates):
            yield sft_samples(chosen, rng, self.sloppy, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        """Few, since every token of them takes a forward of its own."""
        problems = replace(TASK, train=1, evaluation=32).load(tokenizer, 64).evaluation
        return sft_samples(problems, np.random.default_rng(0), self.sloppy, tokenizer)


def config() -> FitConfig:
    made = made_policy("arithmetic-diffusion-sft", Worked(), RandomEncoder(), UPDATES)
    learner = replace(made.learner, head="masked_diffusion", packing=False, elbo_samples=1)
    return replace(made, learner=learner)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
