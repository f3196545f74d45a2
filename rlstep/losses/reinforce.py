"""REINFORCE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.losses.means import Mean, TokenMean
from rlstep.losses.policy_gradient import PolicyGradient, Surrogate


@dataclass(frozen=True, kw_only=True)
class LogLikelihood(Surrogate):
    """A log pi: the gradient is exact for tokens that the policy itself has just drawn."""

    reads: ClassVar[frozenset[str]] = frozenset()

    def __call__(
        self, log_rho: Tensor, advantages: Tensor, logprobs: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return advantages * logprobs, {}


@dataclass(frozen=True, kw_only=True)
class Reinforce(PolicyGradient):
    """REINFORCE: log-likelihood weighted by the advantage, no ratio; for one update a batch.

    Williams 1992; for language models Ahmadian et al. 2024, arXiv:2402.14740. It needs
    no old_logprobs, and knows nothing of updates that were made since the tokens were drawn. The
    value is no estimate of the return: only its gradient means something.
    """

    laws: ClassVar[frozenset[str]] = frozenset(
        {"on_policy_gives_the_policy_gradient", "gradient_by_hand"}
    )

    surrogate: Surrogate = LogLikelihood()
    mean: Mean = TokenMean()
