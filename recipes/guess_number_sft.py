"""Makes the policy that the guessing recipe begins with: it guesses anywhere in what is left.

rlstep sft recipes/guess_number_sft.py          in <run>/export; the shipped one is made so
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from guess_number_turns import GUESSES
from sft_base import RandomLlama, made_policy

from rlstep.cli import run_recipe
from rlstep.environments.guess_number import anywhere
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.guess_number import GuessNumberTask, sft_samples
from rlstep.types import LabelSamples

UPDATES = 1200


@dataclass(frozen=True, kw_only=True)
class Games(Examples):
    """Fresh games for every batch, of training problems alone."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 32
    """Games of one update."""

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        problems = GuessNumberTask().load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for _ in range(self.updates):
            chosen = [problems[i] for i in rng.choice(len(problems), self.batch, replace=False)]
            yield sft_samples(chosen, GUESSES, anywhere, rng, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        problems = GuessNumberTask().load(tokenizer, 64).evaluation
        return sft_samples(problems, GUESSES, anywhere, np.random.default_rng(0), tokenizer)


def config() -> FitConfig:
    start = RandomLlama(tokenizer="rlstep.tasks.guess_number.guess_number_tokenizer")
    return made_policy("guess-number-sft", Games(), start, UPDATES, learning_rate=2e-3)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
