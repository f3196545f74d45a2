"""What the pairwise losses share. N sequences, L tokens, P pairs.

Their logprobs are the model's at temperature 1, whatever the samples were drawn at: pi of DPO and
of what came from it is the policy itself, and pairs may come from any sampler. (A policy gradient's
are those of the distribution that it was sampled from: `losses.policy_gradient`.)
"""

from __future__ import annotations

from torch import Tensor

from rlstep.interfaces import PairBatch
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts


def log_ratios(predictions: Tensor, batch: PairBatch) -> Tensor:
    """[N, L]: logprob under the policy minus logprob under the reference, 0 where not trained."""
    return masked(predictions - batch.ref_logprobs, batch.loss_mask)


def sequence_means(values: Tensor, batch: PairBatch) -> Tensor:
    """[N, L] -> [N]: mean over each sequence's trained tokens, 0 where it has none."""
    return masked(values, batch.loss_mask).sum(1) / batch.loss_mask.sum(1).clamp(min=1)


def pair_mean(values: Tensor, counts: Counts) -> Tensor:
    """[P] -> a scalar: the sum divided by the global number of pairs, exactly 0 without any."""
    return values.sum() / max(counts.pairs, 1)


def prompt_mean(values: Tensor, batch: PairBatch, counts: Counts) -> Tensor:
    """[P] -> a scalar: the mean over the prompts that have pairs of the mean over their pairs."""
    prompts, of, pairs = batch.prompt.unique(return_inverse=True, return_counts=True)
    share = len(values) / (max(len(prompts), 1) * pairs[of])  # of mean 1 over the pairs
    return pair_mean(share * values, counts)


def pair_metrics(
    ratios: Tensor,
    beta: float,
    batch: PairBatch,
    counts: Counts,
    *,
    each: str = "logprob_change",
) -> dict[str, Tensor]:
    """How the pairs stand, from one number a sequence [N]: its log-ratio over all trained tokens,
    or what a loss without a reference compares.

    `margin` is beta times the difference of the two sides. Both are logged for themselves too, as
    `chosen_<each>` and `rejected_<each>`, because the chosen one may fall while the margin grows
    (likelihood displacement).
    """
    chosen, rejected = ratios.detach()[batch.chosen], ratios.detach()[batch.rejected]
    return {
        "pair_accuracy": pair_mean((chosen > rejected).to(ratios.dtype), counts),
        "margin": pair_mean(beta * (chosen - rejected), counts),
        f"chosen_{each}": pair_mean(chosen, counts),
        f"rejected_{each}": pair_mean(rejected, counts),
    }
