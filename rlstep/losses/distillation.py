"""Distillation: the policy's distributions towards a teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.losses.divergence import Divergence, ReverseKl
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, LabelSamples


@dataclass(frozen=True, kw_only=True)
class Distillation(Loss):
    """weight D(policy, teacher) of every token's distribution, averaged by weight.

    The teacher is the learner's fixed reference: `reference="model"` with its folder as
    `reference_model`. On the policy's own samples (`tensors.labels.EverySample`) it is on-policy
    distillation, GKD with the student's share of the data at 1 (Agarwal et al. 2023,
    arXiv:2306.13649, section 3); on stored solutions, `rlstep sft`, word-level distillation. The
    samples are constants: no gradient goes through the drawing of them, so the divergence is of
    each token's distribution given its prefix and not of whole sequences (for those
    `advantages.teacher.TeacherAdvantages`). Both are at temperature 1, whatever the samples were
    drawn at. With outcome advantages beside it see `PolicyGradient.distillation`.
    """

    takes: ClassVar[type] = LabelSamples
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    divergence: Divergence = ReverseKl()
    """Which one: `ReverseKl`, `ForwardKl` or `JensenShannon`, over all tokens or the top k."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"divergences"})

    def divergences(self, logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
        return self.divergence(logits, reference, temperature)

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        logprobs, divergences = predictions.unbind(-1)
        weights, total = masked(batch.weights, batch.loss_mask), counts.weight or 1.0
        loss = (weights * masked(divergences, batch.loss_mask)).sum() / total
        nll = -(weights * masked(logprobs.detach(), batch.loss_mask)).sum() / total
        return LossOutput(loss, {"divergence": loss.detach(), "nll": nll})
