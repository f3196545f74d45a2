"""Self-play preference optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.checks import positive
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import log_ratios, pair_mean, pair_metrics
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class Sppo(Loss):
    """(Delta(y) - (P(y) - 1/2) / beta)^2, the mean over a pair's two sides, each for itself.

    P(y) is y's win rate against the policy that sampled it, read from the pairs' scores; Delta(y)
    is the sum of log policy/reference over the trained tokens, the reference being that same
    policy. Wu et al. 2024, arXiv:2405.00675, section 4, with eta = 1 / beta; the mean over pairs.
    Scores of 1 and 0 (outcomes) are hard labels.
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    beta: float = 0.001
    """At 0.001 a certain win is worth 500 nats: never compute this loss in float16."""

    def __post_init__(self) -> None:
        positive("loss.beta", self.beta)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        """Raises ValueError where a score is no win rate, that is, lies outside [0, 1]."""
        ratios = log_ratios(predictions, batch).sum(1)  # [N]
        chosen = ratios[batch.chosen] - self._targets(batch.chosen_score)
        rejected = ratios[batch.rejected] - self._targets(batch.rejected_score)
        loss = pair_mean((chosen.square() + rejected.square()) / 2, counts)
        return LossOutput(loss, pair_metrics(ratios, self.beta, batch, counts))

    def _targets(self, win_rates: Tensor) -> Tensor:
        """[P]: the log-ratio at which each side's loss is 0."""
        outside = win_rates[(win_rates < 0.0) | (win_rates > 1.0)]
        if len(outside):
            raise ValueError(
                f"a pair's score is {outside[0].item():g}; Sppo reads scores as win rates, which"
                " lie in [0, 1]"
            )
        return (win_rates - 0.5) / self.beta
