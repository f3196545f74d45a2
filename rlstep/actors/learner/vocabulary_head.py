"""A language model's last layer that gives its tokens' logprobs in place of logits.

Dimensions: R rows of W tokens, d hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlstep.actors.weights.merged import base_model
from rlstep.tensors.batching import PackedBatch
from rlstep.tensors.head_logprobs import head_logprobs


class VocabularyHead(nn.Linear):
    """The weights of another head, which it can be asked for the logprobs, and entropies, of
    tokens. The model hands them on as its logits; [R, W, V] never exists.

    It is asked through the model's own forward, so that adapters, checkpointing and what ZeRO-3
    does around a layer to have its weights there stay as they are.
    """

    def __init__(self, head: nn.Linear) -> None:
        super().__init__(head.in_features, head.out_features, bias=False, device="meta")
        self.weight, self.bias = head.weight, head.bias
        self._asked: tuple[PackedBatch, tuple[float, bool]] | None = None

    @contextmanager
    def asked_for(self, batch: PackedBatch, temperature: float, entropies: bool) -> Iterator[None]:
        """Within it [R, W, d] give float32 [R, W', 1 or 2] of the batch's targets; see
        `head_logprobs`."""
        self._asked = batch, (temperature, entropies)
        try:
            yield
        finally:
            self._asked = None

    def forward(self, input: Tensor) -> Tensor:
        if self._asked is None:
            return super().forward(input)
        batch, numbers = self._asked
        hidden = batch.ahead(input)
        return head_logprobs(hidden, self.weight, self.bias, batch.targets, numbers)


def find_vocabulary_head(model: Any) -> VocabularyHead | None:
    """That of a model, which may be the DeepSpeed engine; None where logits are needed."""
    head = base_model(getattr(model, "module", model)).get_output_embeddings()
    return head if isinstance(head, VocabularyHead) else None


@torch.no_grad()
def use_vocabulary_head(model: nn.Module) -> None:
    """Put one in the place of a language model's head, where nothing but a linear map lies between
    last hidden states and logits.

    A head with an adapter stays. So does that of a model that changes its head's outputs, as
    Gemma 2 (a soft cap), Granite and Cohere (a scale) do, or that calls it other than once with the
    hidden states of all positions. It is found by trying: what a model returns as logits must be
    what its head was made to return.

    Args:
        model: whole, on the device that it will run on.
    """
    base = base_model(model)
    head = base.get_output_embeddings()
    if type(head) is nn.Linear and _hands_on(base, head):
        base.set_output_embeddings(VocabularyHead(head))


def _hands_on(model: Any, head: nn.Linear) -> bool:
    """Whether the head's outputs are the model's logits, whatever they are."""
    ids = torch.tensor([[1, 2, 3]], device=head.weight.device)
    given = torch.linspace(-100.0, 100.0, 3 * head.out_features, device=head.weight.device)
    given = given.to(head.weight.dtype).view(1, 3, -1)
    shapes: list[tuple[int, ...]] = []

    def replace(_: Any, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        shapes.append(tuple(inputs[0].shape))
        return given

    hook = head.register_forward_hook(replace)
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
    once = shapes == [(1, 3, head.in_features)]
    return once and logits.shape == given.shape and bool((logits == given).all())
