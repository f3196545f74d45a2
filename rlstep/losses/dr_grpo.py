"""Dr. GRPO's policy loss."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.losses.means import ConstantLength, Mean
from rlstep.losses.policy_gradient import Clip, PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class DrGrpo(PolicyGradient):
    """Dr. GRPO: clipped token ratios, summed over a sequence and divided by a constant length.

    GRPO without its preference for long wrong completions (Liu et al. 2025, arXiv:2503.20783,
    section 3.2). The constant is the largest number of sampled tokens, 3,000 in the paper's runs,
    and only scales the loss. No KL. The other half of it are advantages without a standard
    deviation: `GroupAdvantages(std="none")`.
    """

    surrogate: Surrogate = Clip(low=0.2, high=0.2)
    mean: Mean = ConstantLength(length=3000)
