"""The learner's weights as generators take them: full tensors under checkpoint names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
        self._under_way: Iterator[tuple[str, Tensor]] = iter(())
        self._metadata = [WeightMeta(name, dtype, tuple(value.shape)) for name, value in self]

    def metadata(self) -> list[WeightMeta]:
        """Of every weight, in the order of iteration."""
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Gathers are collective: every rank iterates, in the same order.

        Each tensor is a copy, since ZeRO-3 frees the gathered storage while a receiver may still
        read.
        """
        self._under_way = self._copies()
        return self._under_way

    def _copies(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in checkpoint_weights(self._module):
            yield name, value.to(self._dtype, copy=True)

    @contextmanager
    def round(self) -> Iterator[None]:
        """One iteration, which a rank that fails in the block, or before it asked for the first
        weight, goes through nevertheless: the other ranks wait in the gathers, and would wait for
        as long as any of their verbs may take."""
        self._under_way = iter(self)
        try:
            yield
        except BaseException:
            for _ in self._under_way:
                pass
            raise
