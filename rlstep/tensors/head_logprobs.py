"""A language model's token log-probs without its logits: from the last hidden states and the head.

Dimensions: R rows of W tokens, T positions of them, C of a chunk; d hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlstep.tensors.logprobs import CHUNK_ELEMENTS, check_temperature, gradient, numbers

MULTIPLIED_ELEMENTS = 1 << 26
"""Logits that exist at a time, 128 MiB in bfloat16; `CHUNK_ELEMENTS` of them at a time go through
the softmax. A product of fewer would spend its time on reading the head."""

SUMMED_ELEMENTS = 1 << 21
"""Entries of the head's gradient that are added to their sums at a time."""


def head_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    token_ids: Tensor,
    asked: tuple[float, bool] = (1.0, False),
) -> Tensor:
    """`token_logprobs` of a head's logits, or `token_logprobs_and_entropies`, a chunk of positions
    at a time in forward and backward.

    The logits are rounded to the hidden states' type, as the head itself does it, so the values are
    the same up to the order of sums. What the head gets of each chunk is summed in float32.

    The gradient of the weight is sum_t g_t (onehot_t - softmax_t) h_t^T, where g is the loss's
    gradient by the logprobs. A loss over steps or sequences has its g only when all their logprobs
    are there, and g stands inside of the sum, so nothing of it can be made in the forward. The
    logits are computed again in the backward (unless one chunk has room for all: it is kept), and
    only where g is not 0: a prompt, a clipped token or padding costs nothing there.

    Args:
        hidden: [R, W, d], what the head is given.
        weight: [V, d].
        bias: [V].
        token_ids: int64 [R, W].
        asked: the temperature, which the sampler divided its logits by, and whether the entropies
            are wanted.

    Returns:
        float32 (or float64) [R, W, 1 or 2], in nats; 0 at the first position.

    Raises:
        ValueError: the temperature is not positive.
    """
    check_temperature(asked[0])
    inputs, targets = hidden[:, :-1].flatten(0, 1), token_ids[:, 1:].flatten()
    columns: Any = _HeadNumbers.apply(inputs, weight, bias, targets, asked)
    rows = torch.stack(columns, -1).unflatten(0, (len(hidden), hidden.shape[1] - 1))
    return F.pad(rows, (0, 0, 1, 0))


class _HeadNumbers(torch.autograd.Function):
    """Saves hidden states, the numbers it returns, and logits where these are one chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        asked: tuple[float, bool],
    ) -> tuple[Tensor, ...]:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        columns = [hidden.new_empty(len(hidden), dtype=dtype) for _ in range(1 + asked[1])]
        buffer = _buffer(targets, hidden, weight)
        for at in _slices(len(hidden), len(buffer)):
            logits = _multiplied(hidden[at], weight, bias, buffer)
            for inner in _in_cache(logits):
                found = numbers(logits[inner], targets[at][inner], *asked)
                for column, values in zip(columns, found, strict=True):
                    column[at][inner] = values
        kept = buffer if len(hidden) == len(buffer) else None
        ctx.save_for_backward(hidden, weight, bias, targets, kept, *columns)
        ctx.temperature = asked[0]
        return tuple(columns)

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, *scales: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        hidden, weight, bias, targets, kept, *columns = ctx.saved_tensors
        of_hidden, of_weight, of_bias = _zeros(ctx.needs_input_grad, hidden, weight, bias)
        trained = torch.stack(scales).ne(0.0).any(0).nonzero()[:, 0]  # NaN is not 0
        buffer = _buffer(trained, hidden, weight)
        for rows in trained.split(len(buffer)):
            inputs = hidden[rows]
            if kept is None:
                logits = _multiplied(inputs, weight, bias, buffer)
            else:
                logits = torch.index_select(kept, 0, rows, out=buffer[: len(rows)])
            for inner in _in_cache(logits):
                at = rows[inner]
                values, weights = ([c[at] for c in each] for each in (columns, scales))
                part = gradient(logits[inner], targets[at], values, weights, ctx.temperature)
                logits[inner] = part  # which is their gradient now
            if of_hidden is not None:
                of_hidden[rows] = logits @ weight
            if of_weight is not None:
                _add_product(of_weight, logits, inputs)
            if of_bias is not None:
                of_bias += logits.sum(0, dtype=of_bias.dtype)
        of_weight, of_bias = (x if x is None else x.to(weight.dtype) for x in (of_weight, of_bias))
        return of_hidden, of_weight, of_bias, None, None


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, max(1, size)):
        yield slice(start, min(start + max(1, size), length))


def _buffer(rows: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """[C, V], C >= 1, the memory of a chunk's logits: new memory for each would cost more than the
    product does."""
    size = max(1, min(MULTIPLIED_ELEMENTS // len(weight), len(rows)))
    return hidden.new_empty(size, len(weight))


def _in_cache(logits: Tensor) -> Iterator[slice]:
    """Positions of a chunk, as many as go through the softmax at a time."""
    elements = CHUNK_ELEMENTS.get(logits.device.type, 1 << 24)
    return _slices(len(logits), elements // logits.shape[1])


def _multiplied(hidden: Tensor, weight: Tensor, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """The logits, in the buffer's memory."""
    out = buffer[: len(hidden)]
    if bias is None:
        return torch.mm(hidden, weight.t(), out=out)
    return torch.addmm(bias, hidden, weight.t(), out=out)


def _zeros(needed: Sequence[bool], hidden: Tensor, *head: Tensor | None) -> list[Tensor | None]:
    """Where the gradients go, those of the head at least in float32; None where none is needed."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    found = [torch.zeros_like(hidden) if needed[0] else None]
    for tensor, needs in zip(head, needed[1:], strict=False):
        made = None if tensor is None or not needs else torch.zeros_like(tensor, dtype=wide)
        found.append(made)
    return found


def _add_product(sums: Tensor, of_logits: Tensor, inputs: Tensor) -> None:
    """Add [C, V]^T [C, d] to [V, d]."""
    for at in _slices(len(sums), SUMMED_ELEMENTS // sums.shape[1]):
        sums[at] += of_logits[:, at].t() @ inputs
