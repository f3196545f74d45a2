"""The learner's half of vLLM's own weight transfers, between GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from torch import Tensor
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerWeightTransferEngine,
    WeightSource,
)
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
from vllm.utils.network_utils import get_open_port

from rlstep.actors.weights.sync_client import ReplicaSyncClient
from rlstep.actors.weights.weight_source import LearnerWeights


def _declared(weights: LearnerWeights) -> list[ParamMeta]:
    return [ParamMeta(m.name, m.dtype, m.shape) for m in weights.metadata()]


if hasattr(WeightSource, "iter_full"):  # vLLM 0.33: every rank owns every weight, in full

    class EngineSource(WeightSource):  # pyright: ignore[reportRedeclaration]  # one of two
        """A learner's weights as vLLM's engines read them."""

        def __init__(self, weights: LearnerWeights) -> None:
            self._weights = weights

        @cached_property
        def metadata(self) -> list[ParamMeta]:
            return _declared(self._weights)

        def iter_full(self) -> Iterator[tuple[str, Tensor]]:
            return iter(self._weights)

else:  # vLLM 0.32

    class EngineSource(WeightSource):
        """A learner's weights as vLLM's engines read them."""

        def __init__(self, weights: LearnerWeights) -> None:
            self._weights = weights

        def metadata(self) -> list[ParamMeta]:
            return _declared(self._weights)

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            return iter(self._weights)


def vllm_sender(
    backend: str,
    client: ReplicaSyncClient,
    weights: LearnerWeights,
    *,
    rank: int,
    address: str,
    engine_workers: int,
) -> TrainerWeightTransferEngine[Any]:
    """What sends over `backend`, 'nccl' or 'ipc'; the arguments are `GlooSender`'s. Neither has a
    deadline of its own: the caller's holds."""
    # Off CUDA, PyNccl disables itself and broadcasts nothing without an error (vLLM 0.32), so
    # Config refuses these two where a role has no GPU.
    infos = {
        "nccl": lambda: NCCLTrainerInitInfo(
            rank=rank,
            master_address=address,
            master_port=get_open_port(),
            world_size=1 + engine_workers,
        ),
        "ipc": lambda: IPCTrainerInitInfo(rank=rank),
    }
    return WeightTransferTrainerFactory.trainer_init(
        infos[backend](), client=client, source=EngineSource(weights)
    )
