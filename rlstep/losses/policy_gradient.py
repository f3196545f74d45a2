"""The policy gradient, composed of parts; the named algorithms choose them, a file each.

Dimensions: N sequences, L tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlstep.checks import at_least
from rlstep.interfaces import COLUMNS, AdvantageBatch, Loss, LossOutput
from rlstep.losses.correction import Correction
from rlstep.losses.divergence import Divergence, ReverseKl
from rlstep.losses.kl import Kl, k3
from rlstep.losses.means import Mean, TokenMean, row_means
from rlstep.tensors.logprobs import masked
from rlstep.types import AdvantageSamples, Counts


class Surrogate(ABC):
    """What is maximised at every token."""

    reads: ClassVar[frozenset[str]] = frozenset({"old_logprobs"})
    """As in `Loss.reads`; empty where the ratio is not used."""

    @abstractmethod
    def __call__(
        self, log_rho: Tensor, advantages: Tensor, logprobs: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The gain and metrics, all [N, L].

        Args:
            log_rho: [N, L], log of the probability ratio between the policy and the old policy.
            advantages: [N, L], constants.
            logprobs: [N, L], the policy's.
        """


@dataclass(frozen=True, kw_only=True)
class Clip(Surrogate):
    """min(rho A, clip(rho, 1 - low, 1 + high) A): no gain from moving further than the bounds.

    Schulman et al. 2017, arXiv:1707.06347, eq. 7. Where A < 0 the gain has no lower bound; `dual`
    gives it one, max(., dual * A) (Ye et al. 2020, arXiv:1912.09729).
    """

    low: float = 0.2
    high: float = 0.2
    dual: float = 0.0
    """0 turns the second bound off; the paper has 3."""

    def __post_init__(self) -> None:
        at_least("loss.surrogate.low", self.low, 0.0)
        at_least("loss.surrogate.high", self.high, 0.0)
        if self.dual != 0.0:
            at_least("loss.surrogate.dual (or 0, off)", self.dual, 1.0)

    def __call__(
        self, log_rho: Tensor, advantages: Tensor, logprobs: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rho = log_rho.exp()
        free = rho * advantages
        gain = torch.minimum(free, rho.clamp(1.0 - self.low, 1.0 + self.high) * advantages)
        if self.dual > 0.0:
            bounded = torch.maximum(gain, self.dual * advantages)
            gain = torch.where(advantages < 0.0, bounded, gain)
        return gain, {"clip_fraction": (gain != free).to(rho.dtype)}


@dataclass(frozen=True, kw_only=True)
class PolicyGradient(Loss):
    """A policy gradient of freely chosen parts: -w gain(rho, A) + KL - entropy + D, averaged.

    rho = exp(policy_logprobs - old_logprobs), `gain` is the surrogate's and w the correction's.
    Everything is of the distribution that was sampled, softmax(logits / temperature) with the
    rollouts' own temperature: the policy's logprobs, the old policy's and the reference's, and so
    ratios, KL, correction, entropy and the divergence D.
    The parts' defaults are PPO's (arXiv:1707.06347). A group of equal outcomes has advantages of 0
    and so no part in the gain.
    """

    takes: ClassVar[type] = AdvantageSamples
    separable: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset(
        {
            "on_policy_gives_minus_mean_advantage",
            "on_policy_gives_the_policy_gradient",
            "gradient_is_the_values",
        }
    )

    surrogate: Surrogate = Clip()
    """The gain from ratio and advantage, with its clip."""
    level: Literal["token", "sequence"] = "token"
    """Whose ratio: a token's, or its sequence's exp(mean_t(policy_logprobs - old_logprobs)). The
    gradient of a sequence's ratio still goes to each token by that token's advantage (GSPO-token,
    arXiv:2507.18071, section 4.3; the same as GSPO where a sequence has one advantage)."""
    mean: Mean = TokenMean()
    """How tokens become one number: over all tokens, by sequence, or over a constant length."""
    kl: Kl = Kl()
    """The KL to the reference, in the loss or in the reward; none by default."""
    correction: Correction = Correction()
    """Weights for what sampler and learner compute differently; off by default."""
    entropy: float = 0.0
    """Coefficient of the bonus for the exact entropy of each trained token's distribution."""
    distillation: float = 0.0
    """Coefficient of the exact divergence of each trained token's distribution from that of the
    learner's fixed reference: a teacher's (`reference="model"`) beside the outcome, or the start's
    (`reference="initial"`) where `kl` only estimates it from the sampled token."""
    divergence: Divergence = ReverseKl()
    """Which divergence; with a `distillation` of 0 it is not computed."""

    def __post_init__(self) -> None:
        at_least("loss.entropy", self.entropy, 0.0)
        at_least("loss.distillation", self.distillation, 0.0)

    @property
    def reads(self) -> frozenset[str]:
        wanted = {"entropies": self.entropy, "divergences": self.distillation}
        columns = frozenset(name for name, coefficient in wanted.items() if coefficient > 0.0)
        return self.surrogate.reads | self.kl.reads | self.correction.reads | columns

    def divergences(self, logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
        return self.divergence(logits, reference, temperature)

    def __call__(self, predictions: Tensor, batch: AdvantageBatch, counts: Counts) -> LossOutput:
        mask = batch.loss_mask
        logprobs, extra, metrics = self._columns(predictions, mask)
        cost, penalty, seen = self.kl(logprobs, batch)
        ratios = masked(logprobs - batch.old_logprobs, mask)
        gaps = masked(batch.old_logprobs - batch.rollout_logprobs, mask)
        if "old_logprobs" in self.reads:
            metrics |= {"policy_change": k3(ratios), "mismatch": gaps.abs()}
        gain, clipped = self.surrogate(
            self._log_rho(ratios, mask), masked(batch.advantages, mask) - penalty, logprobs
        )
        weights, outside = self.correction(gaps, mask)
        losses = cost - weights * gain + extra
        metrics |= seen | clipped | outside
        return LossOutput(
            self.mean(losses, mask, counts),
            {name: TokenMean()(column.detach(), mask, counts) for name, column in metrics.items()},
        )

    def _columns(
        self, predictions: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The logprobs, what every token's loss gains of the columns behind them, and metrics."""
        read = [name for name in COLUMNS if name in self.reads]
        logprobs, *columns = predictions.unbind(-1) if read else (predictions,)
        found = {name: masked(column, mask) for name, column in zip(read, columns, strict=True)}
        extra, metrics = torch.zeros_like(logprobs), dict[str, Tensor]()
        if "entropies" in found:
            metrics["entropy"] = found["entropies"]
            extra = extra - self.entropy * found["entropies"]
        if "divergences" in found:
            metrics["divergence"] = found["divergences"]
            extra = extra + self.distillation * found["divergences"]
        return masked(logprobs, mask), extra, metrics

    def _log_rho(self, ratios: Tensor, mask: Tensor) -> Tensor:
        """[N, L]; at sequence level the value is the sequence's and the gradient the token's."""
        if self.level == "token":
            return ratios
        fixed = ratios.detach()
        return row_means(fixed, mask)[:, None] + (ratios - fixed)
