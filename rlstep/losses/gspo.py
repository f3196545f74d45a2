"""GSPO's policy loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rlstep.losses.means import Mean, SequenceMean
from rlstep.losses.policy_gradient import Clip, PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class Gspo(PolicyGradient):
    """GSPO: clips the ratio of whole sequences, averaged per sequence.

    Zheng et al. 2025, arXiv:2507.18071, eqs. 5 and 7, clip 3e-4 and 4e-4 (section 5.1); a mean of
    log-ratios moves far less than a token's does. Advantages that differ within a sequence are
    taken as in GSPO-token (section 4.3): the gradient of a token is its own advantage's, which is
    not the value's, since the value has the whole sequence's ratio at every token.
    """

    laws: ClassVar[frozenset[str]] = frozenset(
        {
            "on_policy_gives_minus_mean_advantage",
            "on_policy_gives_the_policy_gradient",
            "gradient_by_hand",
        }
    )

    surrogate: Surrogate = Clip(low=3e-4, high=4e-4)
    level: Literal["token", "sequence"] = "sequence"
    mean: Mean = SequenceMean()
