"""The engine's half of a weight transfer over gloo, as an engine of vLLM's weight transfer.

vLLM 0.32 ships none that works without CUDA. This one speaks the protocol of the built-in `nccl`
engine (learner rank 0 sends, every engine worker receives), so that the generators' side is the
same on CPU and GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed import ProcessGroupGloo
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from rlstep.actors.weights.gloo_group import GlooPlace, GlooRound, broadcast, join


@dataclass
class GlooInitInfo(GlooPlace, WeightTransferInitInfo):
    """What `GlooSender` says before it is met."""


@dataclass
class GlooUpdateInfo(GlooRound, WeightTransferUpdateInfo):
    """What it says before it sends."""


class GlooTransferEngine(WeightTransferEngine[GlooInitInfo, GlooUpdateInfo]):
    """In each engine worker."""

    init_info_cls = GlooInitInfo
    update_info_cls = GlooUpdateInfo
    group: ProcessGroupGloo | None = None

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        parallel = self.parallel_config
        rank = parallel.data_parallel_index * parallel.world_size + parallel.rank
        self.group = join(init_info, init_info.rank_offset + rank)

    def start_weight_update(self) -> None:
        # The bracket is required: the CPU build packs linear weights away, and a bare
        # `load_weights` would write into empty placeholders.
        initialize_layerwise_reload(self.model)
        _pack_experts_anew(self.model)

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        if self.group is None:
            raise RuntimeError("weights were sent before init_weight_transfer_engine")
        for name, dtype, shape in zip(
            update_info.names, update_info.dtypes, update_info.shapes, strict=True
        ):
            # A fresh buffer each: layerwise reload keeps tensors until their layer is complete.
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            broadcast(self.group, weight)
            self.model.load_weights([(name, weight.to(self.device))])  # type: ignore[operator]

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        # A tied head receives nothing, and the CPU build of vLLM 0.32 keeps a packed copy of it
        # that would stay stale, silently.
        for module in self.model.modules():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        self.group = None


def _pack_experts_anew(model: nn.Module) -> None:
    """Have the experts of mixtures packed again once they have come.

    The CPU build of vLLM 0.32 packs them where it makes their kernel. With a kernel in place it
    takes an update in as it comes, and reads the plain weights as packed ones, silently: logprobs
    are nats off, or the shapes differ where packing pads.
    """
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if not isinstance(method, FusedMoEMethodBase) or method.moe_kernel is None:
            continue
        if isinstance(method.moe_kernel.fused_experts, CPUUnquantizedExperts):
            method.moe_kernel = None
