"""PPO's policy loss."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.losses.means import Mean, TokenMean
from rlstep.losses.policy_gradient import Clip, PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class Ppo(PolicyGradient):
    """PPO: clipped token ratios, averaged over all tokens; `surrogate.dual` adds the dual clip.

    Schulman et al. 2017, arXiv:1707.06347, eq. 7 with its epsilon of 0.2; the advantages of PPO are
    those of a critic. Dual clip: Ye et al. 2020, arXiv:1912.09729, off by default.
    """

    surrogate: Surrogate = Clip(low=0.2, high=0.2)
    mean: Mean = TokenMean()
