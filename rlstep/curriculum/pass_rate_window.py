"""Problems that are neither solved nor hopeless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlstep.checks import at_least, between
from rlstep.curriculum.shuffled import taken
from rlstep.interfaces import Choice, Curriculum, Draw, Measurement
from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True)
class PassRateWindow(Curriculum):
    """Prompts whose measured pass rate lies in a window, and those that nothing is known of.

    What Kimi k1.5 (arXiv:2501.12599) filters by before training, kept up to date: a rate is that of
    the last `remembered` iterations, so what was put aside is tried again after them.
    Where the window leaves too few prompts, those that are nearest to it fill up the batch, in
    random order where they are as near.
    """

    lowest: float = 0.1
    """Smallest pass rate that is sampled again, inclusive."""
    highest: float = 0.9
    """Largest one, inclusive."""
    remembered: int = 20
    """Iterations that a measurement counts for."""

    def __post_init__(self) -> None:
        between("curriculum.lowest", self.lowest, 0.0, 1.0)
        between("curriculum.highest", self.highest, 0.0, 1.0)
        at_least("curriculum.highest", self.highest, self.lowest)
        at_least("curriculum.remembered", self.remembered, 1)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"outcome"})

    def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
        first = draw.iteration - self.remembered
        rates = pass_rates([m for m in draw.measured if m.iteration >= first])
        outside = np.array([self._outside(rates.get(p.prompt_id)) for p in prompts])
        inside = [prompt for prompt, far in zip(prompts, outside, strict=True) if far == 0.0]
        metrics = {"inside": len(inside) / len(prompts)}
        wanted = draw.size + draw.further
        if len(inside) >= wanted:
            return Choice(prompts=taken(inside, draw), metrics=metrics)
        order = np.random.default_rng([draw.seed, draw.iteration]).permutation(len(prompts))
        nearest = order[np.argsort(outside[order], kind="stable")]
        return Choice(prompts=[prompts[i] for i in nearest[:wanted]], metrics=metrics)

    def _outside(self, rate: float | None) -> float:
        """How far a pass rate is from the window, 0 inside."""
        return 0.0 if rate is None else max(self.lowest - rate, rate - self.highest, 0.0)


def pass_rates(measured: Sequence[Measurement]) -> dict[str, float]:
    """By prompt_id the share of correct rollouts among all that have a verdict."""
    correct: dict[str, int] = {}
    samples: dict[str, int] = {}
    for m in measured:
        correct[m.prompt_id] = correct.get(m.prompt_id, 0) + m.correct
        samples[m.prompt_id] = samples.get(m.prompt_id, 0) + m.samples
    return {name: correct[name] / number for name, number in samples.items() if number}
