"""Supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, LabelSamples


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Loss):
    """-weight log pi(token), averaged by weight over the trained tokens of a language model.

    pi is the model at temperature 1, whatever the completions were sampled at. Of a masked
    diffusion model it is the mean of its ELBO's samples, a bound from above of the same.
    """

    takes: ClassVar[type] = LabelSamples
    separable: ClassVar[bool] = True
    of_elbo: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        weights = masked(batch.weights, batch.loss_mask)
        losses = -weights * masked(predictions, batch.loss_mask)
        loss = losses.sum() / (counts.weight or 1.0)  # no weight: the sum is 0 as well
        return LossOutput(loss, {"nll": loss.detach()})
