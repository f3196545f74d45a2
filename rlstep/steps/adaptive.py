"""Steps that end where the policy was unsure how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rlstep.checks import at_least
from rlstep.interfaces import StepSplitter
from rlstep.steps.partition import partition
from rlstep.types import Completion, Step


def pooled_threshold(completions: Sequence[Completion], quantile: float) -> float:
    """The probability under which (strictly) at most that share of all sampled tokens lies.

    Args:
        quantile: in [0, 1].

    Returns:
        A token's probability; 0, which nothing lies under, where there are no tokens.
    """
    pool = np.sort(np.concatenate([np.zeros(0), *map(_confidence, completions)]))
    return float(pool[min(int(quantile * len(pool)), len(pool) - 1)]) if len(pool) else 0.0


@dataclass(frozen=True, kw_only=True)
class AdaptiveStepSplitter(StepSplitter):
    """Cuts at sampled tokens of low probability: decisions, as the policy itself tells.

    AdaptiveStep (Liu et al. 2025, arXiv:2502.13943). Confidence is the sampled token's probability
    from the completion's own logprobs, which must be those of temperature 1 and the whole
    vocabulary. The threshold is a low quantile of the pool that is handed in at once: the paper
    pools a data set, here it is the completions of one prompt. Cuts fall inside words and formulas
    too.
    """

    reads_logprobs: ClassVar[bool] = True

    quantile: float = 0.02
    """Share of the pool's tokens to cut at; 0 takes the fixed `threshold` instead."""
    threshold: float = 0.5
    """Probability under which (strictly) a token is unsure; read where quantile is 0."""
    side: Literal["end", "start"] = "end"
    """The unsure token ends its step, or starts the next. The released decoding scores a candidate
    token by the step tag right behind it, so there a decision is the last token of its step."""

    def __post_init__(self) -> None:
        at_least("splitter.quantile", self.quantile, 0.0)
        if self.quantile > 1.0:
            raise ValueError(
                f"splitter.quantile is {self.quantile}; the largest valid value is 1.0"
            )
        at_least("splitter.threshold", self.threshold, 0.0)

    def split(self, completion: Completion) -> tuple[Step, ...]:
        return self.split_all([completion])[0]

    def split_all(self, completions: Sequence[Completion]) -> list[tuple[Step, ...]]:
        by_quantile = self.quantile > 0.0
        threshold = pooled_threshold(completions, self.quantile) if by_quantile else self.threshold
        return [self._steps(completion, threshold) for completion in completions]

    def _steps(self, completion: Completion, threshold: float) -> tuple[Step, ...]:
        unsure = np.flatnonzero(_confidence(completion) < threshold)
        cuts = unsure + 1 if self.side == "end" else unsure
        return partition(cuts.tolist(), len(completion.token_ids))


def _confidence(completion: Completion) -> NDArray[np.float64]:
    """float64 [T]: the probability of each sampled token."""
    return np.exp(completion.logprobs.astype(np.float64))
