"""Identity preference optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.checks import positive
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import log_ratios, pair_mean, pair_metrics, sequence_means
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class Ipo(Loss):
    """(Delta(chosen) - Delta(rejected) - 1 / (2 beta))^2: the margin has a target, not a sigmoid.

    Delta(y) is the sum of log policy/reference over y's trained tokens; the mean over pairs. Azar
    et al. 2023, arXiv:2310.12036, eq. 17, whose regularisation tau is beta here. Where DPO widens a
    margin without end once a pair is certain, this one stops at 1 / (2 beta) nats.
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    beta: float = 0.1
    """The margin of log-ratios that is aimed at is 1 / (2 beta)."""
    per_token: bool = False
    """Delta is the mean over a sequence's tokens, as trl computes it, not the paper's sum: the
    target is then 1 / (2 beta) nats a token."""

    def __post_init__(self) -> None:
        positive("loss.beta", self.beta)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        ratios = log_ratios(predictions, batch)
        sides = sequence_means(ratios, batch) if self.per_token else ratios.sum(1)  # [N]
        losses = (sides[batch.chosen] - sides[batch.rejected] - 0.5 / self.beta).square()
        metrics = pair_metrics(ratios.sum(1), self.beta, batch, counts)
        return LossOutput(pair_mean(losses, counts), metrics)
