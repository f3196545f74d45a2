"""Direct preference optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from rlstep.checks import at_least
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import log_ratios, pair_mean, pair_metrics
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class Dpo(Loss):
    """-(1 - e) log sigmoid(h) - e log sigmoid(-h), h = beta (Delta(chosen) - Delta(rejected)).

    Delta(y) is the sum, not the mean, of log policy/reference over y's trained tokens; the loss is
    the mean over pairs. Rafailov et al. 2023, arXiv:2305.18290, eq. 7; the label smoothing e is
    conservative DPO (Mitchell 2023).
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset(
        {"reference_gives_ln2", "common_shift_cancels", "gradient_is_the_values"}
    )

    beta: float = 0.1
    """How strongly the policy is held to the reference: the margin is beta times the log-ratios'
    difference."""
    label_smoothing: float = 0.0
    """e, the chance that a pair is labelled the wrong way round; 0 trusts all."""

    def __post_init__(self) -> None:
        at_least("loss.beta", self.beta, 0.0)
        if not 0.0 <= self.label_smoothing < 0.5:
            raise ValueError(f"loss.label_smoothing is {self.label_smoothing}; it lies in [0, 0.5)")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        ratios = log_ratios(predictions, batch).sum(1)  # [N]
        h = self.margins(ratios, batch)
        smooth = self.label_smoothing
        losses = -(1.0 - smooth) * logsigmoid(h) - smooth * logsigmoid(-h)
        return LossOutput(pair_mean(losses, counts), pair_metrics(ratios, self.beta, batch, counts))

    def margins(self, ratios: Tensor, batch: PairBatch) -> Tensor:
        """h of every pair, [P], from the sequences' log-ratios [N]."""
        return self.beta * (ratios[batch.chosen] - ratios[batch.rejected])
