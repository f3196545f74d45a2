"""The loss of a process reward model that says how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlstep.checks import positive
from rlstep.interfaces import LabelBatch, Loss, LossOutput
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, LabelSamples


@dataclass(frozen=True, kw_only=True)
class GaussianLabelLoss(Loss):
    """Labels as draws from N(mu, sigma^2), both numbers from a head of two outputs, by weight.

    URM (Lou et al. 2024, arXiv:2410.00847) for step labels y in [0, 1]: at a step's last token the
    head gives a logit l and s = log sigma (not sigma); mu = sigmoid(l), where the paper's mean is
    linear, so that scores stay probabilities. Two forms, averaged by weight:

    - 'likelihood', the default: (mu - y)^2 / (2 sigma^2) + s, the negative log-likelihood less its
      constant. It is least where sigma^2 is the labels' mean squared error: sigma says something.
    - 'sampled', the paper's squared error of a reparameterised draw, (mu + sigma eps - y)^2 with
      eps ~ N(0, 1), as its exact mean over eps: (mu - y)^2 + sigma^2. Nothing is drawn, so nothing
      depends on how a batch is cut. It is least at sigma = 0 whatever the labels are: its sigma is
      what training has not yet removed, and at a small sigma it is plain regression.
    """

    takes: ClassVar[type] = LabelSamples
    of_head: ClassVar[bool] = True
    of_logits: ClassVar[bool] = True
    separable: ClassVar[bool] = True
    outputs: ClassVar[int] = 2
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    form: Literal["likelihood", "sampled"] = "likelihood"
    """Which of the two losses above."""
    least_sigma: float = 0.01
    """The likelihood has no bound where labels are exact: under this sigma counts as this one, and
    has no gradient."""

    def __post_init__(self) -> None:
        positive("loss.least_sigma", self.least_sigma)

    def __call__(self, predictions: Tensor, batch: LabelBatch, counts: Counts) -> LossOutput:
        """predictions: float32 [N, L, 2], the logit of the mean and log sigma."""
        mask, total = batch.loss_mask, counts.weight or 1.0  # no weight: every sum is 0 as well
        weights, targets = masked(batch.weights, mask), masked(batch.targets, mask)
        logits, log_sigma = masked(predictions, mask[..., None]).unbind(-1)
        means = logits.sigmoid()
        squares = (means - targets).square()
        bounded = log_sigma.clamp(min=math.log(self.least_sigma))
        surprise = squares * (-2.0 * bounded).exp()
        if self.form == "likelihood":
            losses = 0.5 * surprise + bounded
        else:
            losses = squares + (2.0 * log_sigma).exp()
        columns = {
            "target_mean": targets,
            "prediction_mean": means,
            "squared_error": squares,
            "sigma_mean": log_sigma.exp(),
            "squared_error_in_sigmas": surprise,  # 1 where sigma is right
        }
        return LossOutput(
            (weights * losses).sum() / total,
            {name: (weights * c.detach()).sum() / total for name, c in columns.items()},
        )
