"""Bidirectional negative feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import log_ratios, pair_mean, pair_metrics, sequence_means
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class Bnf(Loss):
    """Cross-entropy whose push dies away at both ends, down for rejected sides; no beta.

    For token y with probability p under the policy and q under the reference, BNF (Mao et al. 2024,
    arXiv:2410.04834) is cross-entropy with the detached soft target f_y = min(1, p / q) on y and
    f_k = (1 - f_y) pi_k / (1 - p) on every other token k, negated on rejected sides.

    The target sums to 1, so the gradient by the logits is pi - f: p - f_y at y, and
    pi_k (f_y - p) / (1 - p) at k. That is -w d log p / d logits with

        w = (f_y - p) / (1 - p) = 1 where p >= q, else (p / q) (1 - q) / (1 - p),

    since d log p / d logits is 1 - p at y and -pi_k at k. So -w log p with w detached has BNF's
    gradient exactly and needs no tensor of the vocabulary's size. Its value is not the paper's,
    which adds the entropy of the rest; look at the margin and the accuracy instead.

    Each sequence is divided by its own number of trained tokens, as in the paper; the published
    implementation (sail-sg/oat) divides a whole batch by its shortest sequence, and adds 1e-6 to
    the probabilities. The two sides are added up, pairs averaged.
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_by_hand", "length_cancels"})

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        logprobs = masked(predictions, batch.loss_mask)
        weights = push(logprobs.detach(), masked(batch.ref_logprobs, batch.loss_mask))
        scores = sequence_means(weights * logprobs, batch)  # [N]
        losses = scores[batch.rejected] - scores[batch.chosen]  # [P]
        metrics = pair_metrics(log_ratios(predictions, batch).sum(1), 1.0, batch, counts)
        return LossOutput(pair_mean(losses, counts), metrics)


def push(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """w of every token, in [0, 1]: 1 where the policy is at or above the reference, less below it.

    1 - p is -expm1(log p), exact where p is so near to 1 that the difference would cancel.
    """
    below = (logprobs - ref_logprobs).exp() * ref_logprobs.expm1() / logprobs.expm1()
    return torch.where(logprobs >= ref_logprobs, 1.0, below)
