"""The learner's weights as generators take them: full tensors under checkpoint names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlstep.actors.weights.merged import checkpoint_weights


@dataclass(frozen=True)
class WeightMeta:
    """What is known of a weight before it is gathered."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class LearnerWeights:
    """Every weight of a (possibly ZeRO-3 sharded, possibly LoRA-wrapped) causal language model.

    The whole state is sent every time: a fused vLLM module that receives only some of its parts
    (q_proj without k_proj) is left with uninitialised memory and no error (vLLM 0.32).

    Args:
        module: the module that DeepSpeed wraps.
        dtype: the dtype the generators serve in; tensors are cast to it before they are sent.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module = module
        self._dtype = dtype
        self._metadata = [WeightMeta(name, dtype, tuple(value.shape)) for name, value in self]

    def metadata(self) -> list[WeightMeta]:
        """Of every weight, in the order of iteration."""
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Gathers are collective: every rank iterates, in the same order.

        Each tensor is a copy, since ZeRO-3 frees the gathered storage while a receiver may still
        read.
        """
        for name, value in checkpoint_weights(self._module):
            yield name, value.to(self._dtype, copy=True)
