"""The loss of a process reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, LabelSamples


@dataclass(frozen=True, kw_only=True)
class StepLabelLoss(Loss):
    """Binary cross-entropy of a scalar head at the steps' last tokens, averaged by weight.

    Targets are hard or soft, the share of correct continuations for Monte-Carlo labels
    (Math-Shepherd, arXiv:2312.08935, eq. 2 with the soft estimate); weights are their number. The
    least value is the targets' entropy, not 0.
    """

    takes: ClassVar[type] = LabelSamples
    of_head: ClassVar[bool] = True
    of_logits: ClassVar[bool] = True
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values", "zero_logits_give_ln2"})

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        mask, total = batch.loss_mask, counts.weight or 1.0  # no weight: every sum is 0 as well
        weights, targets = masked(batch.weights, mask), masked(batch.targets, mask)
        logits = masked(predictions, mask)
        losses = binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")
        agrees = (logits.detach() > 0.0) == (targets > 0.5)
        return LossOutput(
            (weights * losses).sum() / total,
            {
                "label_accuracy": (weights * agrees).sum() / total,
                "target_mean": (weights * targets).sum() / total,
                "prediction_mean": (weights * logits.detach().sigmoid()).sum() / total,
            },
        )
