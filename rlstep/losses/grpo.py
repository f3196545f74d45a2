"""GRPO's policy loss."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.losses.kl import Kl
from rlstep.losses.means import Mean, SequenceMean
from rlstep.losses.policy_gradient import Clip, PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class Grpo(PolicyGradient):
    """GRPO: clipped token ratios, averaged per sequence, and a k3 KL in the loss.

    Shao et al. 2024, arXiv:2402.03300, eqs. 3 and 4, with its KL coefficient of 0.04 and PPO's clip
    of 0.2. The advantages (`advantages.group`, `advantages.process`) are the other half of it. The
    paper's reference is the first model: set `policy.reference="initial"` to hold the policy to its
    start. The default, 'iteration', holds it to where the iteration began, and with one update an
    iteration it is refused, since that KL is 0.
    """

    surrogate: Surrogate = Clip(low=0.2, high=0.2)
    mean: Mean = SequenceMean()
    kl: Kl = Kl(coefficient=0.04, estimator="k3", place="loss")
