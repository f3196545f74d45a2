"""A PRM of the arithmetic task from exact step labels, beside the one that learns in the loop.

rlstep fit recipes/arithmetic_prm_fit.py          in <run>/export, where `Prm` can start from

The solutions are those of `arithmetic_sft.py`, which the shipped policy was trained on, so their
steps are about as hard to tell apart as the policy's own.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from arithmetic_base import TASK, scalar_learner
from sft_base import drawn

from rlstep.cli import run_recipe
from rlstep.examples.judged import Judged, judged_samples
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.losses.step_label import StepLabelLoss
from rlstep.tasks.arithmetic import worked_solution
from rlstep.types import LabelSamples, Prompt

UPDATES = 100


@dataclass(frozen=True, kw_only=True)
class Judgments(Examples):
    """Fresh solutions for every batch; the oracle judges the steps up to the first error."""

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    batch: int = 96
    """Solutions of one update."""
    sloppy: float = 0.65
    """Probability that a step of a solution is a sloppy one (see `worked_solution`)."""

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        wanted = (self.updates + 1) * self.batch  # one batch more, and none comes twice
        problems = replace(TASK, train=wanted, evaluation=0).load(tokenizer, 64).train
        rng = np.random.default_rng(seed)
        for chosen in drawn(problems, self.batch, self.updates):
            yield self._samples(chosen, rng, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        problems = replace(TASK, train=1).load(tokenizer, 64).evaluation
        return self._samples(problems, np.random.default_rng(0), tokenizer)

    def _samples(
        self, problems: Seq[Prompt], rng: np.random.Generator, tokenizer: Any
    ) -> LabelSamples:
        return judged_samples([(p, self._judged(p, rng)) for p in problems], tokenizer)

    def _judged(self, problem: Prompt, rng: np.random.Generator) -> Judged:
        steps = worked_solution(problem, rng, self.sloppy)
        error = TASK.first_error(problem, steps)
        labelled = len(steps) if error is None else error + 1
        return Judged(
            steps=tuple(steps),
            targets=tuple(float(k != error) for k in range(len(steps))),
            weights=tuple(float(k < labelled) for k in range(len(steps))),
        )


def config() -> FitConfig:
    return FitConfig(
        name="arithmetic-prm-fit",
        learner=replace(scalar_learner(), mini_batches=1),
        loss=StepLabelLoss(),
        examples=Judgments(),
        iterations=UPDATES // 20,
        updates_per_iteration=20,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
