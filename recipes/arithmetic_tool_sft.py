"""Makes the policy that `arithmetic_tool_grpo.py` begins with: it can call, and seldom does.

rlstep sft recipes/arithmetic_tool_sft.py          in <run>/export; the shipped one is made so
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from arithmetic_tool_grpo import TASK
from sft_base import RandomLlama, drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.precedence import sft_samples
from rlstep.types import LabelSamples

UPDATES = 600


@dataclass(frozen=True, kw_only=True)
class Calling(Examples):
    """Fresh conversations for every batch."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 96
    """Conversations of one update."""
    alone: float = 0.8
    """Probability that a conversation goes without the calculator."""
    problems: int = 16_384

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        problems = replace(TASK, train=self.problems, evaluation=0).load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for chosen in drawn(problems, self.batch, self.updates):
            yield sft_samples(chosen, rng, self.alone, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        problems = replace(TASK, train=1).load(tokenizer, 64).evaluation
        return sft_samples(problems, np.random.default_rng(0), self.alone, tokenizer)


def config() -> FitConfig:
    start = RandomLlama(tokenizer="rlstep.tasks.precedence.precedence_tokenizer")
    return made_policy("arithmetic-tool-sft", Calling(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
