"""Makes the policy that writes problems at an asked difficulty, and solves problems of them all.

    rlstep sft recipes/questions_sft.py          in <run>/export; the shipped one is made so

1,500 updates of 298,624 parameters, 28 minutes on a busy machine. Of every batch a quarter
are problems to write, the rest worked solutions of mixed quality, of 1 to 10 operations alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from questions_base import PROBLEMS, WRITING
from sft_base import RandomLlama, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.arithmetic import problem, worked_solution
from rlstep.tasks.arithmetic_writing import drawn_problem
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples, Prompt

UPDATES = 1500


@dataclass(frozen=True, kw_only=True)
class WrittenAndSolved(Examples):
    """Fresh problems to write, and fresh solutions, in every batch."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    solutions: int = 72
    """Of one update."""
    written: int = 24
    """Problems to write in one update."""
    sloppy: float = 0.65
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        asked = WRITING.load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for _ in range(self.updates):
            chosen = rng.choice(len(asked), self.solutions + self.written, replace=False)
            yield self._samples([asked[i] for i in chosen], rng, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        asked = WRITING.load(tokenizer, 64).evaluation
        return self._samples(asked[:512], np.random.default_rng(0), tokenizer)

    def _samples(
        self, asked: Sequence[Prompt], rng: np.random.Generator, tokenizer: Any
    ) -> LabelSamples:
        """Solutions first, then the problems to write."""
        written = [drawn_problem(prompt, PROBLEMS, rng) for prompt in asked]
        first = len(asked) * self.solutions // (self.solutions + self.written)
        solved = [problem(f"{text}\n", tokenizer) for text in written[:first]]
        texts = [worked_solution(prompt, rng, self.sloppy) for prompt in solved]
        texts += [[text] for text in written[first:]]
        return solution_samples([*solved, *asked[first:]], texts, tokenizer)


def config() -> FitConfig:
    start = RandomLlama(
        tokenizer="rlstep.tasks.arithmetic.arithmetic_tokenizer",
        intermediate_size=256,
        vocab_size=24,
    )
    return made_policy("questions-sft", WrittenAndSolved(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
