"""Step rewards whose return is a soft minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlstep.advantages.arithmetic import Wide, suffix_sums
from rlstep.advantages.assemble import step_lengths
from rlstep.advantages.step_returns import StepReturns
from rlstep.measuring.ties import cleared
from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True)
class Pure(StepReturns):
    """Steps are paid so that a completion's return is the soft minimum of its step scores.

    PURE's min-form credit assignment (Cheng et al. 2025, arXiv:2504.15275): of PRM probabilities p
    in [0, 1] come scores r = 2p - 1 in [-1, 1], w = softmax(-r / temperature) and rewards w r. As
    the temperature goes to 0 the return is the lowest score up to the worst step and 0 after it.
    Long chains of good steps still pay a little, at most up to the mean score. The outcome is added
    with its own leave-one-out baseline. Separators belong to their steps and are trained with them.

    The released trainer then whitens over all tokens of the batch whose advantage is not exactly 0
    (those at 0, its separators, stay there), which the paper's formulas do not say: that is
    `Whitened(of=Pure())`, but for tokens at 0 in a group with signal, which it moves like others.
    """

    temperature: float = 0.1
    """Of the soft minimum; the smaller, the more the worst step alone decides."""
    baseline: Literal["step", "token", "return"] = "step"
    """What is subtracted from each step's reward: the mean over the other rollouts of their mean
    reward a step; or the others' reward a token, times the step's tokens (the two of the released
    code). Both grow with the rollout's own length, so they pay for further steps where the others
    have negative scores; 'return' has the baseline of the other step returns, which does not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0.0:
            raise ValueError(
                f"advantages.temperature is {self.temperature}; it must be positive (the nearest"
                " valid values are small ones, like 0.01)"
            )

    @property
    def laws(self) -> frozenset[str]:
        by_length = self.baseline == "token"
        return frozenset() if by_length else frozenset({"one_step_is_outcome"})

    def step_rewards(self, scores: Wide) -> Wide:
        signed = 2.0 * scores - 1.0
        weights = np.exp((signed.min() - signed) / self.temperature)
        return weights / weights.sum() * signed

    def process_advantages(self, rewards: list[Wide], rollouts: list[Rollout]) -> list[Wide]:
        found = self._less_baseline(rewards, rollouts)
        # The softmax makes this of a score's rounding; colder, it is the minimum, which does not.
        magnified = float(np.clip(0.5 / self.temperature, 1.0, 100.0))
        return [cleared(steps, *(magnified * terms for terms in rewards)) for steps in found]

    def _less_baseline(self, rewards: list[Wide], rollouts: list[Rollout]) -> list[Wide]:
        if self.baseline == "return":
            return super().process_advantages(rewards, rollouts)
        if len(rollouts) < 2:
            return [np.zeros(len(steps)) for steps in rewards]
        totals = np.array([steps.sum() for steps in rewards])
        sizes = [np.ones(len(steps)) for steps in rewards]
        if self.baseline == "step":
            means = totals / [len(steps) for steps in rewards]
            each = (means.sum() - means) / (len(means) - 1)
        else:
            sizes = [step_lengths(rollout) for rollout in rollouts]
            tokens = np.array([size.sum() for size in sizes])
            each = (totals.sum() - totals) / (tokens.sum() - tokens)
        return [
            suffix_sums(steps - baseline * size)
            for steps, baseline, size in zip(rewards, each, sizes, strict=True)
        ]
