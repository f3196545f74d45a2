"""The clipped policy-gradient loss of PPO and GRPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlstep.batching import AdvantageBatch
from rlstep.checks import at_least
from rlstep.interfaces import Loss, LossOutput
from rlstep.logprobs import masked
from rlstep.types import AdvantageSamples, Counts


@dataclass(frozen=True, kw_only=True)
class ClippedPolicyGradient(Loss):
    """-w min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) + kl k3, averaged over tokens.

    rho = exp(policy_logprobs - old_logprobs) (PPO, arXiv:1707.06347, eq. 7); separate clip bounds
    and the mean over all trained tokens of the mini-batch are DAPO's (arXiv:2503.14476).
    k3 = exp(d) - d - 1 with d = ref_logprobs - policy_logprobs estimates the KL divergence from the
    reference (GRPO, arXiv:2402.03300, eq. 4). w = min(exp(old_logprobs - rollout_logprobs), cap)
    corrects for a sampler whose logprobs are not the learner's (truncated importance sampling).
    """

    takes: ClassVar[type] = AdvantageSamples
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset(
        {"on_policy_gives_minus_mean_advantage", "gradient_is_the_values"}
    )

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    """Coefficient of k3; 0 reads no ref_logprobs."""
    mismatch_cap: float = 0.0
    """Largest importance weight between sampler and learner; 0 turns the correction off."""

    def __post_init__(self) -> None:
        at_least("loss.clip_low", self.clip_low, 0.0)
        at_least("loss.clip_high", self.clip_high, 0.0)
        at_least("loss.kl", self.kl, 0.0)
        at_least("loss.mismatch_cap", self.mismatch_cap, 0.0)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"old_logprobs", "ref_logprobs"} if self.kl > 0.0 else {"old_logprobs"})

    def __call__(self, predictions: Tensor, batch: AdvantageBatch, counts: Counts) -> LossOutput:
        mask, advantages = batch.loss_mask, masked(batch.advantages, batch.loss_mask)
        log_rho = masked(predictions - batch.old_logprobs, mask)
        rho = log_rho.exp()
        clipped = rho.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        gain = torch.minimum(rho * advantages, clipped * advantages)
        gap = masked(batch.old_logprobs - batch.rollout_logprobs, mask)
        if self.mismatch_cap > 0.0:
            gain = gain * gap.exp().clamp(max=self.mismatch_cap)
        losses = -gain
        metrics = {
            "clip_fraction": (clipped * advantages < rho * advantages).to(rho.dtype),
            "policy_change": rho - 1.0 - log_rho,  # k3: KL of old from policy
            "mismatch": gap.abs(),
        }
        if self.kl > 0.0:
            d = masked(batch.ref_logprobs - predictions, mask)
            k3 = d.exp() - d - 1.0
            losses = losses + self.kl * k3
            metrics["kl"] = k3
        tokens = max(counts.tokens, 1)
        return LossOutput(
            losses.sum() / tokens,
            {name: values.detach().sum() / tokens for name, values in metrics.items()},
        )
