"""The KL divergence of the policy from the reference, estimated from the sampled tokens.

With d = ref_logprobs - policy_logprobs of a token that the policy drew (Schulman 2020,
http://joschu.net/blog/kl-approx.html), both at the temperature that it was drawn at, and f
differentiated by the policy's logprob:

| estimator | f(d)        | mean of f   | mean gradient of f, in the loss | f in the reward   |
|-----------|-------------|-------------|---------------------------------|-------------------|
| k1        | -d          | KL, exactly | 0: it regularises nothing       | KL's, exactly     |
| k2        | d^2 / 2     | near KL     | KL's, exactly                   | biased            |
| k3        | e^d - d - 1 | KL, exactly | that of KL(reference, policy)   | biased            |

So k1 is for the reward and k2 for the loss; k3 in the loss, which is GRPO's, pulls towards the
reference too, but by the gradient of the other direction of the divergence (Tang and Munos 2025,
arXiv:2506.09477). k1 can be negative at a token; k2 and k3 cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlstep.checks import at_least
from rlstep.interfaces import TokenBatch
from rlstep.tensors.logprobs import masked


def k1(d: Tensor) -> Tensor:
    """-d."""
    return -d


def k2(d: Tensor) -> Tensor:
    """d^2 / 2."""
    return d.square() / 2.0


def k3(d: Tensor) -> Tensor:
    """e^d - d - 1, exact for small d."""
    return torch.expm1(d) - d


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def suffix_sums(values: Tensor) -> Tensor:
    """[N, L]: entry t is the sum of the row's entries t, t + 1, ..."""
    return values.flip(1).cumsum(1).flip(1)


@dataclass(frozen=True, kw_only=True)
class Kl:
    """Keeps the policy near the reference (`policy.reference`): 'initial' holds it to its start,
    'iteration' only to where the iteration began, which takes several updates to matter."""

    coefficient: float = 0.0
    """0 turns it off, and no ref_logprobs are computed."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """Of the KL at a sampled token: k1 is for the reward, k2 and k3 are for the loss."""
    place: Literal["loss", "reward"] = "loss"
    """'loss' adds coefficient * estimate to every token's loss. 'reward' takes it off the token's
    reward, as a constant without gradient: off the advantage of that token and of all before it in
    its sequence, with the policy as it is at the update and without a baseline. The advantages are
    made before that, so those that are whitened or divided by a std (ReinforcePlusPlus, Whitened,
    GroupAdvantages) are so before the KL comes off: the coefficient is in units of that std, and
    what results has not mean 0 and std 1. REINFORCE++ (arXiv:2501.03262, and OpenRLHF's code)
    takes it off the rewards first and whitens the sum, which divides it by the std too: the
    `coefficient` that does about the same here is theirs over the std of their advantages."""

    def __post_init__(self) -> None:
        at_least("loss.kl.coefficient", self.coefficient, 0.0)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"} if self.coefficient > 0.0 else ())

    def __call__(
        self, logprobs: Tensor, batch: TokenBatch
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """From the policy's logprobs [N, L]: what every token's loss gains, what every token's
        advantage loses, and metrics, all [N, L]."""
        nothing = torch.zeros_like(logprobs)
        if self.coefficient == 0.0:
            return nothing, nothing, {}
        d = masked(batch.ref_logprobs - logprobs, batch.loss_mask)
        estimate = ESTIMATORS[self.estimator](d)
        cost, metrics = self.coefficient * estimate, {"kl": estimate}
        if self.place == "loss":
            return cost, nothing, metrics
        return nothing, suffix_sums(cost.detach()), metrics
