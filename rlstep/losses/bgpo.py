"""BGPO's linear bound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlstep.losses.means import Mean, SequenceMean
from rlstep.losses.policy_gradient import PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class LinearBound(Surrogate):
    """A (1 + log rho) where A >= 0, A rho where A < 0: a sum that bounds a product from below.

    The mean of it over the tokens of a sequence is at most A exp(mean_t log rho), since
    1 + x <= e^x, and e^x is convex; the two are equal in value and gradient where all log rho are 0
    (arXiv:2510.11683).
    """

    def __call__(
        self, log_rho: Tensor, advantages: Tensor, logprobs: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return advantages * torch.where(advantages >= 0.0, 1.0 + log_rho, log_rho.exp()), {}


@dataclass(frozen=True, kw_only=True)
class Bgpo(PolicyGradient):
    """BGPO: a lower bound of the sequence ratio's gain that is a plain sum over tokens.

    Lin et al. 2025, arXiv:2510.11683. A exp(mean_t log rho) needs all of a sequence's tokens before
    the gradient of the first; its bound adds up, so gradients accumulate exactly over any cut, in
    constant memory. The paper has it for the samples of a diffusion model's likelihood; here the
    terms are a sequence's tokens. It has no clip: the bound itself grows only linearly, or falls.
    """

    surrogate: Surrogate = LinearBound()
    mean: Mean = SequenceMean()
