"""Logprobs of hidden tokens. n canvases, C tokens each, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlstep.diffusion.canvas import Canvas, Hidden
from rlstep.tensors.logprobs import tempered


@dataclass(frozen=True, kw_only=True)
class CanvasBatch:
    """Canvases as a model reads them."""

    token_ids: Tensor
    """int64 [n, C], the tokens themselves."""
    seen: Tensor
    """int64 [n, C], the mask token where they are hidden."""
    weights: Tensor
    """float32 [n, C]: what the logprob of each token counts."""

    def to(self, device: torch.device) -> CanvasBatch:
        return CanvasBatch(
            token_ids=self.token_ids.to(device),
            seen=self.seen.to(device),
            weights=self.weights.to(device),
        )


def canvas_batch(rows: Seq[Hidden], canvas: Canvas) -> CanvasBatch:
    """The rows; no rows make one canvas that counts nothing, so that collective gathers match."""
    if not rows:
        hidden = np.ones(canvas.length, dtype=bool)
        ids, weights = np.zeros(canvas.length, np.int32), np.zeros(canvas.length, np.float32)
        rows = [Hidden(token_ids=ids, hidden=hidden, weights=weights)]
    ids = torch.from_numpy(np.stack([row.token_ids for row in rows]).astype(np.int64))
    hidden = torch.from_numpy(np.stack([row.hidden for row in rows]))
    return CanvasBatch(
        token_ids=ids,
        seen=ids.masked_fill(hidden, canvas.mask),
        weights=torch.from_numpy(np.stack([row.weights for row in rows])),
    )


def weighted_logprobs(
    logits: Tensor, batch: CanvasBatch, mask: int, temperature: float = 1.0
) -> Tensor:
    """weights * log p(token | what is not hidden), float32 (or float64) [n, C]; 0 where the weight
    is. Of a canvas under one of its `maskings` the sum is a sample of its ELBO, in nats.

    The softmax is over all tokens but the mask token, which nothing is ever unmasked to. Only what
    counts is computed: [counting tokens, V] and no tensor of all the canvases' logits beside them.

    Args:
        logits: [n, C, V] of the canvases as `seen`, in any floating type.
        mask: the mask token's id.
        temperature: what the sampler divided its logits by.
    """
    counts = batch.weights > 0.0
    chosen = tempered(without_mask(logits[counts], mask), temperature)
    logprobs = -F.cross_entropy(chosen, batch.token_ids[counts], reduction="none")
    out = torch.zeros(counts.shape, dtype=logprobs.dtype, device=logprobs.device)
    return out.index_put((counts,), batch.weights[counts].to(logprobs.dtype) * logprobs)


def without_mask(logits: Tensor, mask: int) -> Tensor:
    """[..., V], at least float32, the mask token's entry minus infinity."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    banned = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    banned[mask] = True
    return wide.masked_fill(banned, float("-inf"))
