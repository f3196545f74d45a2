"""The learner's half of a weight transfer over gloo."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import torch
from torch.distributed import ProcessGroupGloo

from rlstep.actors.weights.gloo_group import GlooPlace, GlooRound, broadcast, join
from rlstep.actors.weights.sync_client import ReplicaSyncClient
from rlstep.actors.weights.weight_source import LearnerWeights, WeightMeta


class GlooSender:
    """Sends every weight as one broadcast a tensor. On every learner rank; only rank 0 is in the
    group, the others take part in the gathers.

    Args:
        client: tells the generators what to do.
        weights: what is sent.
        rank: this learner rank.
        address: of this node, one that the engine workers reach.
        engine_workers: workers of all replicas together.
        deadline_s: longest wait for a verb of an engine, in seconds.
        silence_s: longest wait for one weight, in seconds.
    """

    def __init__(
        self,
        client: ReplicaSyncClient,
        weights: LearnerWeights,
        *,
        rank: int,
        address: str,
        engine_workers: int,
        deadline_s: float,
        silence_s: float,
    ) -> None:
        self.source = weights
        self._client = client
        self._sends = rank == 0
        self._group: ProcessGroupGloo | None = None
        if self._sends:
            waits = {"deadline_s": deadline_s, "silence_s": silence_s}
            self._group = self._meet(address, 1 + engine_workers, **waits)

    def _meet(self, address: str, world_size: int, **waits: float) -> ProcessGroupGloo:
        # The socket is bound before anybody is told its port, so no other program can take it.
        listen = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listen.bind((address, 0))
        listen.listen()
        place = GlooPlace(
            master_address=address,
            master_port=listen.getsockname()[1],
            rank_offset=1,
            world_size=world_size,
            **waits,
        )
        executor = ThreadPoolExecutor(max_workers=1)
        try:  # both sides meet inside `join`, so the engines are told from a second thread
            joined = executor.submit(self._client.init_weight_transfer_engine, asdict(place))
            group = join(place, 0, listen)
            joined.result(timeout=waits["deadline_s"])
        finally:
            executor.shutdown(wait=False)
        return group

    def send_weights(self) -> None:
        """Every rank calls it.

        Raises:
            RuntimeError: an engine refused, left, or took nothing for `silence_s`; names it.
        """
        if not self._sends:
            for _ in self.source:  # takes part in the gathers
                pass
            return
        assert self._group is not None, "send_weights after shutdown"
        metadata = self.source.metadata()
        sent = GlooRound(
            names=[m.name for m in metadata],
            dtypes=[str(m.dtype).removeprefix("torch.") for m in metadata],
            shapes=[list(m.shape) for m in metadata],
        )
        self._client.start_weight_update()
        executor = ThreadPoolExecutor(max_workers=1)
        try:
            received = executor.submit(self._client.update_weights, asdict(sent))
            for tensor in _checked(self.source, metadata):
                if received.done():
                    received.result()  # an engine refused the update: do not wait for it
                try:
                    broadcast(self._group, tensor)
                except RuntimeError as error:
                    raise self._client.blame(error) from error
            received.result()
        finally:
            executor.shutdown(wait=False)
        self._client.finish_weight_update()

    def shutdown(self) -> None:
        """Leave the group."""
        self._group = None


def _checked(source: LearnerWeights, metadata: list[WeightMeta]) -> Iterator[torch.Tensor]:
    """The source's tensors on the CPU, each checked against what the workers were told to expect.

    Raises:
        ValueError: naming the first tensor that differs (a receiver would wait forever for it).
    """
    for (name, tensor), expected in zip(source, metadata, strict=True):
        found = WeightMeta(name, tensor.dtype, tuple(tensor.shape))
        if found != expected:
            raise ValueError(f"the weight source yielded {found} where it declared {expected}")
        yield tensor.detach().cpu().contiguous()
