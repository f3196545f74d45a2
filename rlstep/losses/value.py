"""The loss of a critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlstep.checks import at_least
from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, LabelSamples


@dataclass(frozen=True, kw_only=True)
class ValueLoss(Loss):
    """A critic's squared error against return targets, at the trained tokens, averaged by weight.

    (v - R)^2 with v the output of a scalar head, without a factor of 1/2: PPO, arXiv:1707.06347,
    eq. 9. `clip` is an addition of PPO's code, not of the paper (arXiv:2005.12729):
    max((v - R)^2, (v_old + clip(v - v_old) - R)^2).
    """

    takes: ClassVar[type] = LabelSamples
    of_head: ClassVar[bool] = True
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    clip: float = 0.0
    """Farthest move from the old value that lowers the loss, in units of the return; 0 is off."""

    def __post_init__(self) -> None:
        at_least("loss.clip", self.clip, 0.0)

    @property
    def reads(self) -> frozenset[str]:
        """'old_logprobs' are, for a scalar head, its own outputs before the first update."""
        return frozenset({"old_logprobs"} if self.clip > 0.0 else ())

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        mask, total = batch.loss_mask, counts.weight or 1.0  # no weight: every sum is 0 as well
        weights, returns = masked(batch.weights, mask), masked(batch.targets, mask)
        values = masked(predictions, mask)
        errors = values - returns
        losses = errors.square()
        metrics = {"value_mean": values, "return_mean": returns, "value_error": errors.abs()}
        if self.clip > 0.0:
            old = masked(batch.old_logprobs, mask)
            near = old + (values - old).clamp(-self.clip, self.clip)
            free, losses = losses, torch.maximum(losses, (near - returns).square())
            metrics["clip_fraction"] = (losses > free).to(losses.dtype)
        return LossOutput(
            (weights * losses).sum() / total,
            {name: (weights * column.detach()).sum() / total for name, column in metrics.items()},
        )
