"""Importance weights for a sampler whose logprobs are not the learner's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlstep.checks import at_least
from rlstep.tensors.logprobs import masked


@dataclass(frozen=True, kw_only=True)
class Correction:
    """w = exp(old_logprobs - rollout_logprobs), kept within [low, high]; a constant weight.

    The tokens were drawn by the sampler, whose kernels and number formats differ from the
    learner's: w makes up for it. 'truncate' moves a weight to the nearest bound (truncated
    importance sampling, as in IMPALA, arXiv:1802.01561, section 4.1: a bounded variance for a small
    bias); 'mask' makes it 0 (IcePop, in Ring-1T's report, arXiv:2510.18855, with 0.5 and 5).
    """

    mode: Literal["off", "truncate", "mask"] = "off"
    """'off' has no weight; 'truncate' moves it to the nearest bound, 'mask' makes it 0 outside of
    them."""
    level: Literal["token", "sequence"] = "token"
    """'sequence' gives every token of a sequence the product of their weights."""
    low: float = 0.0
    """Smallest weight."""
    high: float = 2.0
    """Largest weight."""

    def __post_init__(self) -> None:
        # A sampler that agrees has w = 1, which both bounds must leave alone.
        if not 0.0 <= self.low <= 1.0:
            raise ValueError(f"loss.correction.low is {self.low}; it lies in [0, 1]")
        at_least("loss.correction.high", self.high, 1.0)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset() if self.mode == "off" else frozenset({"old_logprobs"})

    def __call__(self, gaps: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """From old_logprobs - rollout_logprobs, [N, L]: the weights and metrics, all [N, L].

        The metric 'mismatch_outside' is the share of tokens whose weight was truncated or masked.
        """
        if self.mode == "off":
            return torch.ones_like(gaps), {}
        if self.level == "sequence":
            gaps = masked(gaps, mask).sum(1, keepdim=True).expand_as(gaps)
        ratios = gaps.detach().exp()
        within = ratios.clamp(self.low, self.high)
        outside = ratios != within
        weights = masked(within, ~outside) if self.mode == "mask" else within
        return weights, {"mismatch_outside": outside.to(ratios.dtype)}
