"""Log-prob arithmetic: from logits to one or two numbers a token, and from tokens to steps.

Dimensions: N sequences, L tokens (padded), V vocabulary, K steps (padded).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = {"cpu": 1 << 18}
"""Logits worked on at a time, by device: 1 MiB in float32 stays in a CPU's cache. Elsewhere it is
1 << 24, 64 MiB, so that there are few kernels to launch."""


def token_logprobs(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """The logprob of every token given the tokens before it.

    Entry t is the logprob OF token t, read from the logits at t - 1; entry 0 is 0. The log-softmax
    is done in float32 (float64 for float64 logits), a chunk of positions at a time: beside the
    logits and their gradient no third tensor of the vocabulary's size exists. The gradient is
    computed in the logits' own type.

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
    check_temperature(temperature)
    return _TokenNumbers.apply(logits, token_ids, temperature, entropies)  # type: ignore[return-value]


def check_temperature(temperature: float) -> None:
    """Raises a ValueError where it is not positive."""
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature}; it must be positive (1.0 for greedy runs)")


def chunks(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """(row, slice of positions) pairs that cover all but the last position of every row."""
    rows, length, vocabulary = logits.shape
    size = max(1, CHUNK_ELEMENTS.get(logits.device.type, 1 << 24) // vocabulary)
    for row in range(rows):
        for start in range(0, length - 1, size):
            yield row, slice(start, min(start + size, length - 1))


def predicted(at: slice) -> slice:
    """The tokens that the logits of these positions predict."""
    return slice(at.start + 1, at.stop + 1)


class _TokenNumbers(torch.autograd.Function):
    """Saves the numbers it returns and no log-softmax; the gradient is written in place."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, token_ids: Tensor, temperature: float, with_entropies: bool
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        out = torch.zeros(logits.shape[:2], dtype=dtype, device=logits.device)
        entropies = torch.zeros_like(out)
        for row, at in chunks(logits):
            after = predicted(at)
            found = numbers(logits[row, at], token_ids[row, after], temperature, with_entropies)
            out[row, after] = found[0]
            if with_entropies:
                entropies[row, after] = found[1]
        ctx.save_for_backward(logits, token_ids, out, entropies)
        ctx.temperature, ctx.with_entropies = temperature, with_entropies
        return out, entropies

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, of_logprobs: Tensor, of_entropies: Tensor
    ) -> tuple[Tensor, None, None, None]:
        logits, token_ids, *saved = ctx.saved_tensors
        columns = 2 if ctx.with_entropies else 1
        out = torch.empty_like(logits)
        out[:, -1] = 0.0
        for row, at in chunks(logits):
            after = predicted(at)
            values = [column[row, after] for column in saved[:columns]]
            weights = [column[row, after] for column in (of_logprobs, of_entropies)[:columns]]
            targets = token_ids[row, after]
            out[row, at] = gradient(logits[row, at], targets, values, weights, ctx.temperature)
        return out, None, None, None


def numbers(
    logits: Tensor, targets: Tensor, temperature: float, with_entropies: bool
) -> list[Tensor]:
    """Of a chunk of C positions the logprobs of their next tokens, and the entropies if wanted.

    Args:
        logits: [C, V].
        targets: int64 [C], the next tokens.
        temperature: positive.
        with_entropies: whether there is a second column.

    Returns:
        One or two of float32 (or float64) [C].
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logprobs = tempered(logits.to(dtype), temperature).log_softmax(-1)
    columns = [logprobs.gather(-1, targets[:, None])[:, 0]]
    if with_entropies:
        columns.append(torch.special.entr(logprobs.exp_()).sum(-1))
    return columns


def gradient(
    logits: Tensor,
    targets: Tensor,
    values: Sequence[Tensor],
    weights: Sequence[Tensor],
    temperature: float,
) -> Tensor:
    """The gradient, by a chunk's logits [C, V] and in their own type, of the sum of its `numbers`,
    whose values are at hand, times weights."""
    # d logprob(token) / d logits = (onehot(token) - softmax) / temperature. The token's own entry
    # is written from its logprob: 1 - p would cancel where p is near 1. The scale is rounded for
    # all entries alike (and mixed types would cost five times the time).
    part = tempered(logits, temperature).softmax(-1)
    scale = (weights[0][:, None] / -temperature).to(part.dtype)
    own = (scale * torch.expm1(values[0][:, None])).to(part.dtype)
    if len(values) == 1:
        return part.mul_(scale).scatter_(-1, targets[:, None], own)
    # d H / d logits = -softmax (log softmax + H) / temperature
    bend = torch.special.entr(part).sub_(part * values[1][:, None])
    bend.mul_(weights[1][:, None] / temperature)
    return part.mul_(scale).scatter_(-1, targets[:, None], own).add_(bend)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Divided in float32, or as they are where there is nothing to divide by."""
    if temperature == 1.0:
        return logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature


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
