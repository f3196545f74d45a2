"""How far a policy's distribution of a token is from a reference's, over the whole vocabulary.

With p the policy's distribution of one token, q the reference's (a teacher's), both the softmax of
logits / temperature, in nats:

| part            | is                                                 | pulls p                |
|-----------------|----------------------------------------------------|------------------------|
| `ReverseKl`     | KL(p, q) = sum p log(p / q)                        | into one of q's modes  |
| `ForwardKl`     | KL(q, p) = sum q log(q / p)                        | over all of q's modes  |
| `JensenShannon` | b KL(q, m) + (1 - b) KL(p, m), m = b q + (1 - b) p | between the two        |

Reverse KL is MiniLLM's (Gu et al. 2023, arXiv:2306.08543), the three together GKD's (Agarwal et al.
2023, arXiv:2306.13649, section 2). The sampled token's log(p / q), k1 of `losses.kl`, estimates the
reverse KL alone; what stands here has no variance, and knows the tokens that were not drawn.

Dimensions: N rows, L tokens, V vocabulary, k of the likeliest tokens, n positions of a chunk, B
outcomes: V tokens, or k tokens and the rest together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlstep.checks import at_least, between
from rlstep.tensors.logprobs import chunks, predicted, tempered


@dataclass(frozen=True, kw_only=True)
class Divergence(ABC):
    """A divergence of two distributions of a token, chosen as a part of a loss."""

    top_k: int = 0
    """Tell only so many of the reference's likeliest tokens apart; all others are one outcome, with
    all that is left of either distribution. That is never more than the divergence over the whole
    vocabulary (data processing), equal to it at V - 1, and the learner keeps k numbers a token of
    the reference in place of V. 0 tells all tokens apart."""

    def __post_init__(self) -> None:
        at_least("loss.divergence.top_k", self.top_k, 0)

    @abstractmethod
    def terms(self, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """What every outcome adds, and p times its derivative by p (but for a constant times p,
        which no softmax notices), both [n, B]. Log-probabilities may be -inf."""

    def __call__(self, logits: Tensor, reference: Tensor, temperature: float = 1.0) -> Tensor:
        """As `interfaces.Loss.divergences`, whose arguments these are.

        Where one vocabulary is longer than the other, both distributions are over the ids that
        both have: the rest are embeddings without a token, with which a family pads its models.
        Done in float32 (float64 for float64 logits), a chunk of positions at a time: beside both
        logits and the gradient no tensor of the vocabulary's size exists.
        """
        if not temperature > 0.0:
            raise ValueError(f"temperature is {temperature}; it must be positive")
        width = min(logits.shape[-1], reference.shape[-1])
        with torch.no_grad():
            kept = _Reference(reference[..., :width], self.top_k, temperature)
        return _ByChunks.apply(logits, kept, self)  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class ReverseKl(Divergence):
    """KL(p, q) = sum p log(p / q): no mass where the reference has none."""

    def terms(self, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        terms = _weighted(log_p, log_q)
        return terms, terms


@dataclass(frozen=True, kw_only=True)
class ForwardKl(Divergence):
    """KL(q, p) = sum q log(q / p): mass wherever the reference has some, as in supervised
    distillation on soft labels."""

    def terms(self, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        return _weighted(log_q, log_p), -log_q.exp()


@dataclass(frozen=True, kw_only=True)
class JensenShannon(Divergence):
    """b KL(q, m) + (1 - b) KL(p, m) with m = b q + (1 - b) p, at most b's entropy: ln 2 at 1/2."""

    beta: float = 0.5
    """b, the reference's share of the mixture m; between 0 and 1. `ForwardKl` and `ReverseKl` are
    the limits, divided by b and by 1 - b."""

    def __post_init__(self) -> None:
        super().__post_init__()
        between("loss.divergence.beta", self.beta, 1e-3, 1.0 - 1e-3)

    def terms(self, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        log_m = (self.beta * log_q.exp() + (1.0 - self.beta) * log_p.exp()).log()
        ours = (1.0 - self.beta) * _weighted(log_p, log_m)
        return self.beta * _weighted(log_q, log_m) + ours, ours


def _weighted(log_p: Tensor, log_q: Tensor) -> Tensor:
    """p log(p / q), and 0 where p is."""
    p = log_p.exp()
    return torch.where(p > 0.0, p * (log_p - log_q), 0.0)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return tempered(logits.to(dtype), temperature).log_softmax(-1)


def _outcomes(logprobs: Tensor, ids: Tensor | None) -> Tensor:
    """[n, V] to [n, B]: the tokens' log-probabilities and last that of all others, or all tokens'.
    (1 - the sum of the tokens' would cancel.)"""
    if ids is None:
        return logprobs
    rest = logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logprobs.gather(-1, ids), rest], -1)


class _Reference:
    """What is kept of the reference's logits [N, L, V]: all of them, or the likeliest tokens."""

    def __init__(self, logits: Tensor, top_k: int, temperature: float) -> None:
        self.width, self.temperature = logits.shape[-1], temperature
        self.kept, self.ids = logits, None
        if not 0 < top_k < self.width:
            return
        dtype = torch.promote_types(logits.dtype, torch.float32)
        self.kept = logits.new_zeros(*logits.shape[:2], top_k + 1, dtype=dtype)
        self.ids = logits.new_zeros(*logits.shape[:2], top_k, dtype=torch.int64)
        for row, at in chunks(logits):
            logprobs = _log_softmax(logits[row, at], temperature)
            self.ids[row, at] = logprobs.topk(top_k, -1).indices
            self.kept[row, at] = _outcomes(logprobs, self.ids[row, at])

    def outcomes(self, row: int, at: slice) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities [n, B] of some positions, and the tokens int64 [n, k] they are of."""
        if self.ids is None:
            return _log_softmax(self.kept[row, at], self.temperature), None
        return self.kept[row, at], self.ids[row, at]


class _ByChunks(torch.autograd.Function):
    """Saves the logits and what is kept of the reference's; every chunk is computed twice."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, reference: _Reference, divergence: Divergence) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.reference, ctx.divergence = reference, divergence
        dtype = torch.promote_types(logits.dtype, torch.float32)
        out = torch.zeros(logits.shape[:2], dtype=dtype, device=logits.device)
        for row, at in chunks(logits):
            log_q, ids = reference.outcomes(row, at)
            logprobs = _log_softmax(logits[row, at, : reference.width], reference.temperature)
            terms, _ = divergence.terms(_outcomes(logprobs, ids), log_q)
            out[row, predicted(at)] = terms.sum(-1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (logits,), reference = ctx.saved_tensors, ctx.reference
        width, temperature = reference.width, reference.temperature
        out = torch.empty_like(logits)
        out[:, -1], out[..., width:] = 0.0, 0.0
        for row, at in chunks(logits):
            log_q, ids = reference.outcomes(row, at)
            logprobs = _log_softmax(logits[row, at, :width], temperature)
            log_p = _outcomes(logprobs, ids)
            _, slopes = ctx.divergence.terms(log_p, log_q)
            # d D / d logits = (p D' - p sum p D') / temperature, D' being the derivative by p.
            part = slopes - log_p.exp() * slopes.sum(-1, keepdim=True)
            if ids is not None:  # what falls to the rest is shared by its tokens as p is
                least = torch.finfo(log_p.dtype).min
                shares = (logprobs - log_p[:, -1:].clamp(min=least)).exp()
                part = (shares * part[:, -1:]).scatter_(-1, ids, part[:, :-1])
            out[row, at, :width] = part * (of_out[row, predicted(at), None] / temperature)
        return out, None, None
