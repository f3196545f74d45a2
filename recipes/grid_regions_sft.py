"""Makes the policy that the region recipe begins with: it often looks at the wrong object.

rlstep sft recipes/grid_regions_sft.py          in <run>/export; none is shipped yet
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sft_base import RandomLlama, drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.tasks.grid_regions import GridRegions, sft_samples
from rlstep.types import LabelSamples

UPDATES = 1200


@dataclass(frozen=True, kw_only=True)
class Looked(Examples):
    """Fresh solutions for every batch."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 64
    """Solutions of one update."""
    careless: float = 0.65
    """Probability that a solution looks at what comes first (see `worked_solution`)."""
    problems: int = 20_000

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        problems = GridRegions(train=self.problems, evaluation=0).load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for chosen in drawn(problems, self.batch, self.updates):
            yield sft_samples(chosen, rng, self.careless, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        problems = GridRegions(train=1).load(tokenizer, 64).evaluation
        return sft_samples(problems, np.random.default_rng(0), self.careless, tokenizer)


def config() -> FitConfig:
    start = RandomLlama(
        tokenizer="rlstep.tasks.grid_regions.grid_regions_tokenizer",
        intermediate_size=192,
    )
    return made_policy("grid-regions-sft", Looked(), start, UPDATES)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
