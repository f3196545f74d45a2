"""What the pairwise losses share. N sequences, L tokens, P pairs."""

from __future__ import annotations

from torch import Tensor

from rlstep.batching import PairBatch
from rlstep.logprobs import masked
from rlstep.types import Counts


def log_ratios(predictions: Tensor, batch: PairBatch) -> Tensor:
    """[N, L]: logprob under the policy minus logprob under the reference, 0 where not trained."""
    return masked(predictions - batch.ref_logprobs, batch.loss_mask)


def pair_mean(values: Tensor, counts: Counts) -> Tensor:
    """[P] -> a scalar: the sum divided by the global number of pairs, exactly 0 without any."""
    return values.sum() / max(counts.pairs, 1)


def pair_metrics(
    ratios: Tensor, beta: float, batch: PairBatch, counts: Counts
) -> dict[str, Tensor]:
    """How the pairs stand, from the sequences' log-ratios [N] over all trained tokens.

    `margin` is beta times the difference of the log-ratios. Both sides' logprob changes are logged
    because the chosen one may fall while the margin grows (likelihood displacement).
    """
    chosen, rejected = ratios.detach()[batch.chosen], ratios.detach()[batch.rejected]
    return {
        "pair_accuracy": pair_mean((chosen > rejected).to(ratios.dtype), counts),
        "margin": pair_mean(beta * (chosen - rejected), counts),
        "chosen_logprob_change": pair_mean(chosen, counts),
        "rejected_logprob_change": pair_mean(rejected, counts),
    }
