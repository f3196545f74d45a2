"""A CPU weight-transfer engine pair for vLLM: one broadcast a tensor over a gloo group.

vLLM 0.32 ships no engine that works without CUDA. This pair speaks the protocol of the built-in
`nccl` engine (learner rank 0 sends, every engine worker receives): CPU and GPU take one path.
The group is stateless: it does not touch the default process group that DeepSpeed uses.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, ClassVar, Self

import torch
from torch.distributed import BroadcastOptions, ProcessGroup
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from rlstep.actors.vllm_plugin import BACKEND


def _join(
    host: str,
    port: int,
    rank: int,
    world_size: int,
    deadline_s: float,
    listen: socket.socket | None = None,
) -> ProcessGroup:
    group = stateless_init_torch_distributed_process_group(
        host,
        port,
        rank,
        world_size,
        "gloo",
        listen_socket=listen,
        timeout=timedelta(seconds=deadline_s),
    )
    assert isinstance(group, ProcessGroup)
    return group


def _broadcast(group: ProcessGroup, tensor: torch.Tensor) -> None:
    """From rank 0, in place. The group's timeout is the deadline of the wait."""
    options = BroadcastOptions()
    options.rootRank = 0
    group.broadcast([tensor], options).wait()


@dataclass
class GlooInitInfo(WeightTransferInitInfo):
    """Where an engine worker joins the group."""

    master_address: str
    master_port: int
    rank_offset: int
    """Rank of the replica's first worker; the client sets it per replica (each replica has
    data_parallel_index 0, so without it all replicas would claim rank 1)."""
    world_size: int
    deadline_s: float


@dataclass
class GlooUpdateInfo(WeightTransferUpdateInfo):
    """Names, dtypes and shapes of one round, in sending order. Plain JSON: tensors do not survive
    the engine's message format."""

    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]


class GlooTransferEngine(WeightTransferEngine[GlooInitInfo, GlooUpdateInfo]):
    """The receiving side, in each engine worker."""

    init_info_cls = GlooInitInfo
    update_info_cls = GlooUpdateInfo
    group: ProcessGroup | None = None

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        parallel = self.parallel_config
        rank = parallel.data_parallel_index * parallel.world_size + parallel.rank
        self.group = _join(
            init_info.master_address,
            init_info.master_port,
            init_info.rank_offset + rank,
            init_info.world_size,
            init_info.deadline_s,
        )

    def start_weight_update(self) -> None:
        # The bracket is required: the CPU build packs linear weights away, and a bare
        # `load_weights` would write into empty placeholders.
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        if self.group is None:
            raise RuntimeError("weights were sent before init_weight_transfer_engine")
        for name, dtype, shape in zip(
            update_info.names, update_info.dtypes, update_info.shapes, strict=True
        ):
            # A fresh buffer each: layerwise reload keeps tensors until their layer is complete.
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            _broadcast(self.group, weight)
            self.model.load_weights([(name, weight.to(self.device))])  # type: ignore[operator]

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        self.group = None


@dataclass
class GlooTrainerInitInfo(TrainerInitInfo):
    """What a learner rank needs to open the group."""

    backend: ClassVar[str] = BACKEND

    master_address: str
    """An address of the sender's node that the engine workers reach."""
    world_size: int
    """1 + the engine workers of all replicas."""
    deadline_s: float
    """Longest wait for a peer, in seconds."""


class GlooTrainerEngine(TrainerWeightTransferEngine[GlooTrainerInitInfo]):
    """The sending side, on every learner rank; only rank 0 is in the group."""

    init_info_cls = GlooTrainerInitInfo
    group: ProcessGroup | None = None

    @classmethod
    def trainer_init(
        cls,
        init_info: GlooTrainerInitInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        assert source is not None, "the gloo engine sends a full WeightSource"
        engine = cls(client=client, source=source, is_sender=init_info.is_sender)
        if not engine.is_sender:
            return engine
        # The socket is bound before anybody is told its port, so no other program can take it.
        listen = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listen.bind((init_info.master_address, 0))
        listen.listen()
        port = listen.getsockname()[1]
        info = GlooInitInfo(
            master_address=init_info.master_address,
            master_port=port,
            rank_offset=1,
            world_size=init_info.world_size,
            deadline_s=init_info.deadline_s,
        )
        executor = ThreadPoolExecutor(max_workers=1)
        try:  # both sides meet inside the rendezvous, so the engines are told from a second thread
            joined = executor.submit(client.init_weight_transfer_engine, asdict(info))
            engine.group = _join(
                info.master_address, port, 0, info.world_size, info.deadline_s, listen
            )
            joined.result(timeout=info.deadline_s)
        finally:
            executor.shutdown(wait=False)
        return engine

    def send_weights(self) -> None:
        assert self.source is not None
        if not self.is_sender:
            for _ in self.source:  # takes part in the gathers
                pass
            return
        metadata = self.source.metadata()
        update = GlooUpdateInfo(
            names=[m.name for m in metadata],
            dtypes=[str(m.dtype).removeprefix("torch.") for m in metadata],
            shapes=[list(m.shape) for m in metadata],
        )
        self.client.start_weight_update()
        executor = ThreadPoolExecutor(max_workers=1)
        try:
            received = executor.submit(self.client.update_weights, asdict(update))
            for tensor in _checked(self.source, metadata):
                if received.done():
                    received.result()  # an engine refused the update: do not wait for it
                _broadcast(self._open_group(), tensor)
            received.result()
        finally:
            executor.shutdown(wait=False)
        self.client.finish_weight_update()

    def _open_group(self) -> ProcessGroup:
        assert self.group is not None, "send_weights after shutdown"
        return self.group

    def shutdown(self) -> None:
        self.group = None


def _checked(source: WeightSource, metadata: list[ParamMeta]) -> Iterator[torch.Tensor]:
    """The source's tensors on the CPU, each checked against what the workers were told to expect.

    Raises:
        ValueError: naming the first tensor that differs (a receiver would wait forever for it).
    """
    for (name, tensor), expected in zip(source, metadata, strict=True):
        found = ParamMeta(name, tensor.dtype, tuple(tensor.shape))
        if found != expected:
            raise ValueError(f"the weight source yielded {found} where it declared {expected}")
        yield tensor.detach().cpu().contiguous()


def trainer_init_info(
    backend: str, *, rank: int, address: str, engine_workers: int, deadline_s: float
) -> TrainerInitInfo:
    """What `WeightTransferTrainerFactory.trainer_init` takes for a backend by its vLLM name.

    Args:
        backend: 'rlstep_gloo', 'nccl' or 'ipc'.
        rank: this learner rank.
        address: an address of learner rank 0's node.
        engine_workers: workers of all replicas together.
        deadline_s: longest wait, in seconds (nccl has none: the caller's deadline holds).
    """
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
    from vllm.utils.network_utils import get_open_port

    makers: dict[str, Any] = {
        BACKEND: lambda: GlooTrainerInitInfo(
            rank=rank,
            master_address=address,
            world_size=1 + engine_workers,
            deadline_s=deadline_s,
        ),
        # Off CUDA, PyNccl disables itself and broadcasts nothing without an error (vLLM 0.32), so
        # Config refuses these two where a role has no GPU.
        "nccl": lambda: NCCLTrainerInitInfo(
            rank=rank,
            master_address=address,
            master_port=get_open_port(),
            world_size=1 + engine_workers,
        ),
        "ipc": lambda: IPCTrainerInitInfo(rank=rank),
    }
    return makers[backend]()
