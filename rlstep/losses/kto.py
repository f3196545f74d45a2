"""Kahneman-Tversky optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlstep.checks import at_least
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import log_ratios, pair_metrics
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class Kto(Loss):
    """Each side for itself, good or bad, against a common reference point (arXiv:2402.01306).

        desirable:    desirable_weight   (1 - sigmoid(beta (Delta(y) - z0)))
        undesirable:  undesirable_weight (1 - sigmoid(beta (z0 - Delta(y))))

    averaged over sequences; Delta(y) is the sum of log policy/reference over y's trained tokens.
    Ethayarajh et al. 2024, arXiv:2402.01306, section 4.

    The chosen sides are desirable, the rejected ones undesirable. Every sequence counts once,
    however many pairs it stands in: a pair says nothing here but which side a sequence is on, so a
    lone correct answer beside seven wrong ones is one good example, not seven. A sequence that is
    chosen in some pairs and rejected in others (scores with more than two values) is desirable by
    the share of its pairs in which it was chosen.

    The reference point z0 = max(0, mean Delta over the mini-batch's paired sequences), without
    gradient. The paper estimates the same KL of the policy from the reference by pairing each
    prompt with another prompt's completion, which needs a second forward pass and looks at
    completions the policy would not write there. Here every completion stays with its own prompt:
    for completions that the policy has just sampled the mean is that KL in expectation, but prompts
    without a pair are not in it, and each of N completions has 1/N of its own reference point (one
    lone sequence above the reference is its own, and stays at sigmoid(0)).
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_by_hand"})

    beta: float = 0.1
    """How strongly the policy is held to the reference, as in DPO."""
    desirable_weight: float = 1.0
    """With n_D desirable and n_U undesirable examples the paper keeps
    desirable_weight n_D / (undesirable_weight n_U) between 1 and 3/2."""
    undesirable_weight: float = 1.0
    """Of every rejected side."""

    def __post_init__(self) -> None:
        at_least("loss.beta", self.beta, 0.0)
        at_least("loss.desirable_weight", self.desirable_weight, 0.0)
        at_least("loss.undesirable_weight", self.undesirable_weight, 0.0)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        ratios = log_ratios(predictions, batch).sum(1)  # [N]
        chosen = torch.bincount(batch.chosen, minlength=len(ratios))
        pairs = chosen + torch.bincount(batch.rejected, minlength=len(ratios))
        desirable = chosen.to(ratios.dtype) / pairs.clamp(min=1)  # share of its pairs, [N]
        paired = pairs > 0
        z0 = masked(ratios.detach(), paired).sum() / paired.sum().clamp(min=1)
        z0 = z0.clamp(min=0.0)
        gain = self.beta * (ratios - z0)
        losses = self.desirable_weight * desirable * torch.sigmoid(-gain)
        losses = losses + self.undesirable_weight * (1.0 - desirable) * torch.sigmoid(gain)
        metrics = pair_metrics(ratios, self.beta, batch, counts)
        metrics["reference_point"] = z0
        return LossOutput(masked(losses, paired).sum() / max(counts.sequences, 1), metrics)
