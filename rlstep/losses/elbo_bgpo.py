"""BGPO over the samples of a diffusion model's ELBO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.interfaces import AdvantageBatch, Loss, LossOutput
from rlstep.losses.bgpo import LinearBound
from rlstep.losses.means import SequenceMean, row_means
from rlstep.tensors.logprobs import masked
from rlstep.types import AdvantageSamples, Counts


@dataclass(frozen=True, kw_only=True)
class ElboBgpo(Loss):
    """BGPO as it is meant: the linear bound of a diffusion policy's gain, a sum over maskings.

    Lin et al. 2025, arXiv:2510.11683. Of the completion y of T tokens let
    delta_j = (ELBO_j(y) - old ELBO_j(y)) / T, of one random masking j each (see
    `rlstep.diffusion.canvas.maskings`); the gain A exp(mean_j delta_j) is bounded from below by the
    mean over j of A (1 + delta_j) where A >= 0 and A exp(delta_j) where A < 0, with equality in
    value and gradient before the first update: there the gradient is that of A ELBO(y) / T. A row
    of the batch is one masking, and the loss minus the mean over all rows. By length because
    exp of a whole completion's difference overflows; the paper's experiments are not followed
    further (no clip, no KL).

    A row's delta is its tokens' mean, and its gradient goes to each token by that token's own
    advantage, as in GSPO-token (arXiv:2507.18071, section 4.3); where all are equal, as of
    outcomes, value and gradient belong together. Of a causal model a sequence is one row, whose
    delta is no sample.
    """

    takes: ClassVar[type] = AdvantageSamples
    separable: ClassVar[bool] = True
    of_elbo: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_by_hand"})

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"old_logprobs"})

    def __call__(self, predictions: Tensor, batch: AdvantageBatch, counts: Counts) -> LossOutput:
        mask = batch.loss_mask
        changes = masked(predictions - batch.old_logprobs, mask)
        fixed = changes.detach()
        delta = row_means(fixed, mask)[:, None] + (changes - fixed)
        gain, _ = LinearBound()(delta, masked(batch.advantages, mask), predictions)
        elbo = SequenceMean()(masked(predictions.detach(), mask), mask, counts)
        moved = SequenceMean()(delta.detach().square(), mask, counts)
        return LossOutput(
            SequenceMean()(-gain, mask, counts), {"elbo_per_token": elbo, "delta_squared": moved}
        )
