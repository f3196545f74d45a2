"""The loss of a process reward model that scores a step by its likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.losses.means import step_targets
from rlstep.tensors.logprobs import masked, step_sums
from rlstep.types import Counts, LabelSamples

CERTAIN = 1e-4
"""What a wrong step's probability is kept short of 1: the gradient stays finite."""


@dataclass(frozen=True, kw_only=True)
class StepLikelihoodLoss(Loss):
    """-y log p - (1 - y) log(1 - p) of each labelled step, p its probability; averaged by weight.

    Likelihood of right steps, and unlikelihood (Welleck et al. 2019, arXiv:1908.04319, there of a
    token) of wrong ones. p is the product over the step's tokens, so this is for short steps that
    can be written in few ways; in log(1 - p) it is multiplied by 1 - `CERTAIN`. A step's weight is
    the sum of its tokens', its target their mean by weight.
    """

    takes: ClassVar[type] = LabelSamples
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        index, mask, total = batch.step_index, batch.loss_mask, counts.weight or 1.0
        targets, weights = step_targets(batch, predictions)  # [N, K]
        logs = step_sums(predictions, index, mask, weights.shape[1])
        unlikely = torch.log1p(-(1.0 - CERTAIN) * logs.clamp(max=0.0).exp())  # rounded over 1
        losses = -targets * logs - (1.0 - targets) * unlikely
        chances = logs.detach().exp()
        agrees = (chances > 0.5) == (targets > 0.5)
        return LossOutput(
            masked(weights * losses, weights > 0.0).sum() / total,
            {
                "label_accuracy": (weights * agrees).sum() / total,
                "target_mean": (weights * targets).sum() / total,
                "prediction_mean": (weights * chances).sum() / total,
            },
        )
