"""DAPO's policy loss."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.losses.means import Mean, TokenMean
from rlstep.losses.policy_gradient import Clip, PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class Dapo(PolicyGradient):
    """DAPO: token ratios with a higher upper clip, averaged over all tokens, no KL.

    Yu et al. 2025, arXiv:2503.14476, eq. 8, sections 3.1 (0.2 and 0.28) and 3.3. The mean is over
    the trained tokens of the whole mini-batch, where eq. 8 writes it for one group.
    """

    surrogate: Surrogate = Clip(low=0.2, high=0.28)
    mean: Mean = TokenMean()
