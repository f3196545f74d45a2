"""Attention over bundles: a prefix that several sequences have is computed once for all of them.

transformers' models call an attention function by name, and hand it what they were called with. The
one here hands on to its 'sdpa' what is no bundle. Bundles it reads in a few calls of SDPA, in each
of which segments of like size see their own keys behind those of their prefix: as many scores as
where every sequence stands alone, or fewer, and no mask of all tokens by all.

Dimensions: T tokens, H heads, h numbers of one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlstep.actors.learner.positions import BY_LENGTH, scalings
from rlstep.tensors.bundles import Branches

NAME = "rlstep_branches"
"""Under which transformers has it."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    branches: Branches | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention functions.

    Args:
        query: [1, H, T, h]; key and value may have fewer heads.
        branches: who sees whom; without it `attention_mask` says so, as ever.

    Returns:
        [1, T, H, h].
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if branches is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    parts = []
    for reading in branches.readings:
        q = _taken(queries, reading.queries)
        k, v = (_taken(tokens, reading.keys) for tokens in (keys, values))
        out = _attention(q, k, v, reading.mask(query.dtype), settings)
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).index_select(0, branches.back)[None], None


def _taken(tokens: Tensor, at: Tensor) -> Tensor:
    """[T, H, h] at [S, Q] to [S, H, Q, h]."""
    return tokens.index_select(0, at.flatten()).unflatten(0, at.shape).transpose(1, 2)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: dict[str, Any]
) -> Tensor:
    """[S, H, Q, h], causal where there is no mask."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and mask is not None and query.is_cuda:  # no kernel there has both
        key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        dropout_p=settings.get("dropout", 0.0),
        scale=settings.get("scaling"),
        enable_gqa=query.shape[1] != key.shape[1],
    )


def check_layers(model: Any) -> None:
    """Refuse, by its configuration, a model of which some layers do not see all that came before,
    or whose positions depend on what else is in the batch. (Of a window nothing shows on a few
    tokens.)

    Args:
        model: one on no device will do.

    Raises:
        ValueError: naming what the model has.
    """
    config = model.config.get_text_config()
    layers: list[str] = getattr(config, "layer_types", None) or []
    found = set(layers) - {"full_attention"}
    for name in ("attention_chunk_size", *(() if layers else ("sliding_window",))):
        if size := getattr(config, name, None):
            found.add(f"{name} {size}")
    found |= {
        f"rope_type {p['rope_type']}" for p in scalings(config) if p["rope_type"] in BY_LENGTH
    }
    if found:
        raise refusal(model, f"has {', '.join(sorted(found))}")


def refusal(model: Any, reason: str) -> ValueError:
    """What is raised of a model that cannot share prefixes."""
    return ValueError(
        f"learner.shared_prefixes is True, but {type(model).__name__} {reason}; the nearest valid"
        " value is False"
    )
