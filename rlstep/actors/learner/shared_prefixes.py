"""Having a model read bundles, after it was seen on itself that it reads them right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlstep.actors.learner.branch_attention import NAME, attend, check_layers, refusal
from rlstep.actors.learner.models import model_inputs
from rlstep.actors.weights.merged import base_model
from rlstep.tensors.batching import PackedBatch, pack
from rlstep.tensors.bundles import Bundles, pack_bundles


@torch.no_grad()
def use_branch_attention(model: nn.Module) -> None:
    """Have a model read bundles, or refuse it.

    The law: in a bundle the hidden states of every sequence are what they are where it stands
    alone. They must be apart by less than a twentieth (as Euclidean norms) of what another first
    token changes in them. Who sees a sibling, or counts places in the row, is apart by as much as
    that; who does not by rounding alone.

    Args:
        model: whole, on the device that it will run on.

    Raises:
        ValueError: the model does not take its attention from transformers' functions, hands them
            no word of bundles, or the law does not hold.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    base = base_model(model)
    check_layers(base)
    base.set_attn_implementation(NAME)
    try:
        apart, scale = _apart(model)
    except (TypeError, RuntimeError) as error:
        raise refusal(base, f"does not take bundles ({error})") from error
    if not apart < scale / 20:
        raise refusal(base, "reads a sequence otherwise behind a prefix that it shares")


def _hidden(model: Any, inputs: dict[str, Any]) -> Tensor:
    """The body's last hidden states, called by the whole model: a head at zero hides nothing."""
    base, seen = base_model(model), []
    hook = getattr(base, base.base_model_prefix).register_forward_hook(
        lambda _, __, output: seen.append(output.last_hidden_state.float())
    )
    try:
        model(**inputs)
    finally:
        hook.remove()
    if not seen:
        raise RuntimeError("its head does not follow its body")
    return seen[0]


def _apart(model: Any) -> tuple[float, float]:
    """How far hidden states in bundles are from those alone, and from those behind another first
    token."""
    device = next(model.parameters()).device

    def hidden(batch: PackedBatch) -> Tensor:
        batch = batch.to(device)
        return batch.unpack(_hidden(model, model_inputs(batch)))

    branches = ([3, 1, 1, 2], [2, 2, 3], [1], [], [2, 3, 3, 1, 2])
    ids = [np.array([1, 2, 3, 1, 2, *branch], dtype=np.int32) for branch in branches]
    others = [np.array([2, *row[1:]], dtype=np.int32) for row in ids]
    order = (1, 3, 0, 2, 4)
    together = hidden(pack_bundles([*others, *ids], Bundles([[4, 0], [i + 5 for i in order]])))
    found = []
    for number, position in enumerate(order):
        alone, other = (hidden(pack([rows[position]], [[0]]))[0, 1:] for rows in (ids, others))
        shared = together[2 + number, 1 : len(ids[position])]
        found.append(torch.stack([shared - alone, other - alone]).square().sum((1, 2)))
    apart, scale = torch.stack(found).sum(0).sqrt().tolist()
    return apart, scale
