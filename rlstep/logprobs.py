"""Log-prob arithmetic: from logits to one or two numbers a token, and from tokens to steps.

Dimensions: N sequences, L tokens (padded), V vocabulary, K steps (padded).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 24
"""Logits widened to float32 at a time: 64 MiB."""


def token_logprobs(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """The logprob of every token given the tokens before it.

    Entry t is the logprob OF token t, read from the logits at t - 1; entry 0 is 0. The log-softmax
    is done in float32 (float64 for float64 logits), a chunk of positions at a time: beside the
    logits and their gradient no third tensor of the vocabulary's size exists.

    Args:
        logits: [N, L, V] in any floating type.
        token_ids: int64 [N, L].
        temperature: what the sampler divided its logits by.

    Returns:
        float32 (or float64) [N, L], in nats.

    Raises:
        ValueError: the temperature is not positive.
    """
    return _token_numbers(logits, token_ids, temperature, False)[0]


def token_logprobs_and_entropies(
    logits: Tensor, token_ids: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`token_logprobs`, and the entropy of the distribution that each token was drawn from.

    Both are exact, have gradients and need no third tensor of the vocabulary's size. Entry t of the
    entropies, in nats, is of the softmax of the logits at t - 1; entry 0 is 0.
    """
    return _token_numbers(logits, token_ids, temperature, True)


def _token_numbers(
    logits: Tensor, token_ids: Tensor, temperature: float, entropies: bool
) -> tuple[Tensor, Tensor]:
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature}; it must be positive (1.0 for greedy runs)")
    return _TokenNumbers.apply(logits, token_ids, temperature, entropies)  # type: ignore[return-value]


def _chunks(rows: int, positions: int, vocabulary: int) -> Iterator[tuple[int, slice]]:
    """(row, slice of positions) pairs that cover the logits, each a view of limited size."""
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    for row in range(rows):
        for start in range(0, positions, size):
            yield row, slice(start, min(start + size, positions))


class _TokenNumbers(torch.autograd.Function):
    """Saves one logsumexp a position, not a log-softmax; the gradient is written in place."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, token_ids: Tensor, temperature: float, with_entropies: bool
    ) -> tuple[Tensor, Tensor]:
        rows, length, vocabulary = logits.shape
        dtype = torch.promote_types(logits.dtype, torch.float32)
        out = torch.zeros(rows, length, dtype=dtype, device=logits.device)
        norms, entropies = torch.zeros_like(out), torch.zeros_like(out)
        for row, at in _chunks(rows, length - 1, vocabulary):
            after = slice(at.start + 1, at.stop + 1)
            scaled = logits[row, at].to(dtype) / temperature
            norms[row, at] = scaled.logsumexp(-1)
            targets = token_ids[row, after, None]
            out[row, after] = scaled.gather(-1, targets)[:, 0] - norms[row, at]
            if with_entropies:
                softmax = scaled.sub_(norms[row, at, None]).exp_()
                entropies[row, after] = torch.special.entr(softmax).sum(-1)
        ctx.save_for_backward(logits, token_ids, norms, entropies)
        ctx.temperature, ctx.with_entropies = temperature, with_entropies
        return out, entropies

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, of_logprobs: Tensor, of_entropies: Tensor
    ) -> tuple[Tensor, None, None, None]:
        logits, token_ids, norms, entropies = ctx.saved_tensors
        rows, length, vocabulary = logits.shape
        out = torch.zeros_like(logits)
        for row, at in _chunks(rows, length - 1, vocabulary):
            after = slice(at.start + 1, at.stop + 1)
            # d logprob(token) / d logits = (onehot(token) - softmax) / temperature
            scale = of_logprobs[row, after, None] / ctx.temperature
            scaled = logits[row, at].to(norms.dtype) / ctx.temperature
            softmax = scaled.sub_(norms[row, at, None]).exp_()
            if ctx.with_entropies:
                # d H / d logits = -softmax (log softmax + H) / temperature
                part = torch.special.entr(softmax).sub_(softmax * entropies[row, after, None])
                part.mul_(of_entropies[row, after, None] / ctx.temperature)
                part.sub_(softmax * scale)
            else:
                part = softmax.mul_(-scale)
            part.scatter_add_(-1, token_ids[row, after, None], scale)
            out[row, at] = part
        return out, None, None, None


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with exact zeros, in value and gradient, where the mask is False, NaN included."""
    return torch.where(mask, values, 0.0)


def step_sums(values: Tensor, step_index: Tensor, mask: Tensor, steps: int) -> Tensor:
    """Sum over each step's tokens, leaving out those that are masked.

    Args:
        values: [N, L].
        step_index: int64 [N, L], -1 outside steps.
        mask: bool [N, L]; True implies step_index >= 0.
        steps: K.

    Returns:
        [N, K].
    """
    out = values.new_zeros(values.shape[0], steps)
    return out.scatter_add(1, step_index.clamp(min=0), masked(values, mask)) if steps else out


def per_token(step_values: Tensor, step_index: Tensor, mask: Tensor) -> Tensor:
    """Every trained token's step value, [N, K] -> [N, L]; 0 where the mask is False."""
    if step_values.shape[1] == 0:
        return step_values.new_zeros(step_index.shape)
    return masked(step_values.gather(1, step_index.clamp(min=0)), mask)
