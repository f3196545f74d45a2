"""The sending half of the weight sync, on every learner rank."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from ray.actor import ActorHandle
from ray.util import get_node_ip_address

from rlstep.actors.learner.learner import LearnerWorker
from rlstep.actors.weights.adapter_sender import TRANSFER, AdapterSender
from rlstep.actors.weights.gloo_sender import GlooSender
from rlstep.actors.weights.sync_client import ReplicaSyncClient
from rlstep.actors.weights.vllm_plugin import BACKEND
from rlstep.actors.weights.weight_source import LearnerWeights


class PublishingLearner(LearnerWorker):
    """A learner rank whose weights generators follow. Both verbs are collective over the ranks."""

    _transfer = None
    _weights: LearnerWeights | None = None
    """Whose iterations the transfer takes; of adapters alone there are none."""

    def join_generators(
        self,
        generators: list[ActorHandle],
        backend: str,
        dtype: str,
        engine_world_size: int,
        deadline_s: float,
        silence_s: float,
    ) -> None:
        """Meet the engine workers of all replicas; an earlier meeting is left first.

        Args:
            generators: the generator actors.
            backend: vLLM's name of the weight transfer, or 'adapter'.
            dtype: what the engines serve in.
            engine_world_size: engine workers of one replica.
            deadline_s: longest wait for a verb of an engine, in seconds.
            silence_s: longest time without a weight that goes through, in seconds; gloo's.
        """
        if self._transfer is not None:
            self._transfer.shutdown()
            self._transfer = self._weights = None
        self._client = ReplicaSyncClient(generators, engine_world_size, deadline_s)
        served, module = getattr(torch, dtype), self.engine.module
        if backend == TRANSFER:
            lora = self.config.model.lora
            self._transfer = AdapterSender(self._client, module, lora, served, rank=self.rank)
            return
        weights = self._weights = LearnerWeights(module, served)
        place: dict[str, Any] = {
            "rank": self.rank,
            "address": get_node_ip_address(),
            "engine_workers": len(generators) * engine_world_size,
        }
        if backend == BACKEND:
            waits = {"deadline_s": deadline_s, "silence_s": silence_s}
            self._transfer = GlooSender(self._client, weights, **waits, **place)
        else:
            from rlstep.actors.weights.vllm_sender import (
                vllm_sender,  # vLLM's own: it takes seconds
            )

            self._transfer = vllm_sender(backend, self._client, weights, **place)

    def publish(self, version: int) -> None:
        """Send every weight (or every adapter), labelled `version` once the engines have it.

        Where rank 0 fails, as it does where an engine does, the other ranks have gathered with it
        to the end, and every rank can be asked again.
        """
        assert self._transfer is not None, "publish before join_generators"
        self._client.version = version
        with self._weights.round() if self._weights else nullcontext():
            self._transfer.send_weights()
