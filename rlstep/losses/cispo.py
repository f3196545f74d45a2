"""CISPO's policy loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.checks import at_least
from rlstep.losses.means import Mean, TokenMean
from rlstep.losses.policy_gradient import PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class ClippedWeight(Surrogate):
    """clip(rho, 1 - low, 1 + high) A log pi, the clipped ratio a constant weight.

    No token loses its gradient, as one outside PPO's bounds does (arXiv:2506.13585, eqs. 4 and 5).
    """

    low: float = 1.0
    """1 sets no lower bound, ratios being positive."""
    high: float = 4.0
    """The largest weight is 1 + high."""

    def __post_init__(self) -> None:
        at_least("loss.surrogate.low", self.low, 0.0)
        at_least("loss.surrogate.high", self.high, 0.0)

    def __call__(
        self, log_rho: Tensor, advantages: Tensor, logprobs: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rho = log_rho.detach().exp()
        weights = rho.clamp(1.0 - self.low, 1.0 + self.high)
        metrics = {"clip_fraction": (weights != rho).to(rho.dtype)}
        return weights * advantages * logprobs, metrics


@dataclass(frozen=True, kw_only=True)
class Cispo(PolicyGradient):
    """CISPO: log-likelihood weighted by the advantage and a clipped constant ratio, all tokens.

    MiniMax-M1 (2025), arXiv:2506.13585, eqs. 4 and 5: no lower bound, an upper one that the paper
    does not tell; a largest weight of 5 is in the range that ScaleRL (arXiv:2510.13786) found
    equally good. The value is no estimate of the return: only its gradient means something.
    """

    laws: ClassVar[frozenset[str]] = frozenset(
        {"on_policy_gives_the_policy_gradient", "gradient_by_hand"}
    )

    surrogate: Surrogate = ClippedWeight()
    mean: Mean = TokenMean()
