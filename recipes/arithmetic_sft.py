"""Makes the arithmetic policy: supervised training on worked solutions of mixed quality.

    rlstep sft recipes/arithmetic_sft.py          the shipped policy, in <run>/export

More of the same, as a control:

    rlstep sft recipes/arithmetic_sft.py --learner.model.path recipes/policies/arithmetic \
        --learner.optimizer.schedule constant --learner.optimizer.learning-rate 1e-4 \
        --train-seconds 290
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from arithmetic_base import TASK
from sft_base import RandomLlama, drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.arithmetic import sft_samples
from rlstep.types import LabelSamples

UPDATES = 1200


@dataclass(frozen=True, kw_only=True)
class Worked(Examples):
    """Fresh solutions for every batch."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 96
    """Solutions of one update."""
    sloppy: float = 0.65
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""
    problems: int = 50_000

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        problems = replace(TASK, train=self.problems, evaluation=0).load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for chosen in drawn(problems, self.batch, self.updates):
            yield sft_samples(chosen, rng, self.sloppy, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        problems = replace(TASK, train=1).load(tokenizer, 64).evaluation
        return sft_samples(problems, np.random.default_rng(0), self.sloppy, tokenizer)


def config() -> FitConfig:
    start = RandomLlama(tokenizer="rlstep.tasks.arithmetic.arithmetic_tokenizer", vocab_size=24)
    return made_policy("arithmetic-sft", Worked(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
