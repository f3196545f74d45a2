"""The loss of an implicit process reward model that has labels of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rlstep.checks import at_least
from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.losses.means import step_targets
from rlstep.tensors.logprobs import masked, step_sums
from rlstep.types import Counts, LabelSamples


@dataclass(frozen=True, kw_only=True)
class ImplicitStepLoss(Loss):
    """Binary cross-entropy of r_k = beta sum_{t in step k} log(policy / reference), by weight.

    A step's part of the implicit reward (Yuan et al. 2024, arXiv:2412.01981: r_k = q_k - q_{k-1})
    is the logit of that step's own label. A step's weight is the sum of its tokens', its target
    their mean by weight. The least value is the targets' entropy, not 0.
    """

    takes: ClassVar[type] = LabelSamples
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"reference_gives_ln2", "gradient_is_the_values"})

    beta: float = 1.0
    """What log-ratios are multiplied by; the step model's own."""

    def __post_init__(self) -> None:
        at_least("loss.beta", self.beta, 0.0)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        index, mask, total = batch.step_index, batch.loss_mask, counts.weight or 1.0
        targets, weights = step_targets(batch, predictions)  # [N, K]
        logits = self.beta * step_sums(
            predictions - batch.ref_logprobs, index, mask, weights.shape[1]
        )
        losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
        agrees = (logits.detach() > 0.0) == (targets > 0.5)
        return LossOutput(
            masked(weights * losses, weights > 0.0).sum() / total,
            {
                "label_accuracy": (weights * agrees).sum() / total,
                "target_mean": (weights * targets).sum() / total,
                "prediction_mean": (weights * logits.detach().sigmoid()).sum() / total,
            },
        )
