"""The loss of an implicit process reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rlstep.checks import at_least
from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.losses.means import row_means
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, LabelSamples


@dataclass(frozen=True, kw_only=True)
class ImplicitOutcomeLoss(Loss):
    """-o log sigmoid(Q) - (1 - o) log sigmoid(-Q), Q = beta sum_t log(policy / reference).

    The mean over completions; o, the outcome, is the mean of a completion's targets (Yuan et al.
    2024, arXiv:2412.01981, the cross-entropy form). It needs no pairs, and one completion a prompt
    is enough.
    """

    takes: ClassVar[type] = LabelSamples
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"reference_gives_ln2", "gradient_is_the_values"})

    beta: float = 0.05
    """What log-ratios are multiplied by; the step model's own."""

    def __post_init__(self) -> None:
        at_least("loss.beta", self.beta, 0.0)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        mask = batch.loss_mask
        trained = mask.any(1)
        logits = self.beta * masked(predictions - batch.ref_logprobs, mask).sum(1)  # [N]
        outcomes = row_means(batch.targets.to(logits), mask)
        losses = binary_cross_entropy_with_logits(logits, outcomes, reduction="none")
        agrees = (logits.detach() > 0.0) == (outcomes > 0.5)
        number = max(counts.sequences, 1)
        return LossOutput(
            masked(losses, trained).sum() / number,
            {
                "outcome_accuracy": (agrees & trained).sum().to(logits) / number,
                "implicit_logit": masked(logits.detach(), trained).sum() / number,
            },
        )
