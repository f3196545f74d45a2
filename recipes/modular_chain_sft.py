"""Makes the policy of the long chains: supervised on solutions of mixed quality, of all lengths.

rlstep sft recipes/modular_chain_sft.py          in <run>/export; the shipped one is made so

It errs with the same probability at every step, for it recalls some facts wrongly, so the share of
problems that it solves falls with their length alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from modular_chain_base import CONTEXT, HORIZONS, TASK
from sft_base import RandomLlama, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.modular_chain import worked_solution
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples, Prompt

SHORT = range(2, 13)
UPDATES = 4000


@dataclass(frozen=True, kw_only=True)
class Worked(Examples):
    """Fresh solutions for every batch, of every length up to the longest.

    It begins with short ones of many lengths: to look an operation up by its name is learnt soonest
    there, where its place is no help.
    """

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    beginning: int = 800
    """Updates with short ones alone."""
    operations: int = 512
    """Steps of one update, in as many solutions of each length."""
    problems: int = 4_000
    """Of each length."""

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        rng = np.random.default_rng(seed)
        made = {
            length: replace(TASK, operations=length, train=self.problems, evaluation=0)
            .load(tokenizer, CONTEXT)
            .train
            for length in {*SHORT, *HORIZONS}
        }
        for update in range(self.updates):
            lengths = SHORT if update < self.beginning else HORIZONS
            each = round(self.operations / sum(lengths))
            chosen = [
                made[length][i]
                for length in lengths
                for i in rng.integers(self.problems, size=each)
            ]
            yield _solutions(chosen, rng, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        task = replace(TASK, operations=16, train=0, evaluation=256)
        problems = task.load(tokenizer, CONTEXT).evaluation
        return _solutions(problems, np.random.default_rng(0), tokenizer)


def _solutions(prompts: Sequence[Prompt], rng: np.random.Generator, tokenizer: Any) -> LabelSamples:
    return solution_samples(prompts, [worked_solution(p, rng) for p in prompts], tokenizer)


def config() -> FitConfig:
    start = RandomLlama(
        tokenizer="rlstep.tasks.modular_chain.modular_chain_tokenizer",
        intermediate_size=384,
        layers=2,
        context=CONTEXT,
        rope_theta=1e6,
    )
    return made_policy("modular-chain-sft", Worked(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
