"""The learner's half of a sync in which LoRA's adapters travel alone, and vLLM applies them."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from rlstep.actors.weights.merged import adapter_parameters, base_model
from rlstep.actors.weights.sync_client import ReplicaSyncClient
from rlstep.adapters.lora import LoraConfig

TRANSFER = "adapter"
"""Its name in `GeneratorConfig.transfer`."""


class AdapterSender:
    """Sends a policy's adapters as the two files that vLLM reads them from. On every learner rank;
    rank 0 sends, the others take part in the gathers.

    Args:
        client: tells the generators what to do.
        module: the module that DeepSpeed wraps, with peft's LoRA.
        lora: what its adapters were made with.
        dtype: what the generators serve in.
        rank: this learner rank.
    """

    def __init__(
        self,
        client: ReplicaSyncClient,
        module: nn.Module,
        lora: LoraConfig,
        dtype: torch.dtype,
        *,
        rank: int,
    ) -> None:
        self._client = client
        self._module = module
        self._lora = lora
        self._dtype = dtype
        self._sends = rank == 0

    def send_weights(self) -> None:
        """Every rank calls it."""
        tensors = adapter_tensors(self._module, self._dtype, keep=self._sends)
        if self._sends:
            self._client.serve_adapter(adapter_files(tensors, self._lora))

    def shutdown(self) -> None:
        """There is no group to leave."""


def adapter_tensors(
    module: nn.Module, dtype: torch.dtype, *, keep: bool = True
) -> dict[str, Tensor]:
    """Copies of all adapters on the CPU, under the names that peft saves them by.

    Gathers are collective, so every rank calls it; one that does not `keep` them gets none.
    """
    from deepspeed.runtime.zero import GatheredParameters

    found: dict[str, Tensor] = {}
    for name, layer in base_model(module).named_modules():
        own = adapter_parameters(layer)
        with GatheredParameters(list(own.values())), torch.no_grad():
            for inner, value in own.items() if keep else ():
                saved = f"base_model.model.{name}.{inner.replace('.default', '')}"
                found[saved] = value.detach().to("cpu", dtype, copy=True)
    return found


def adapter_files(tensors: dict[str, Tensor], lora: LoraConfig) -> dict[str, bytes]:
    """An adapter's folder as peft (0.21) writes it, of what vLLM (0.32) reads in it."""
    from safetensors.torch import save

    settings = {
        "peft_type": "LORA",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": list(lora.target_modules),
        "bias": "none",
    }
    return {
        "adapter_model.safetensors": save(tensors),
        "adapter_config.json": json.dumps(settings).encode(),
    }
