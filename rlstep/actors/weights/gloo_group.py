"""The gloo group over which weights go from learner rank 0 to every engine worker.

It stands alone: it does not touch the default process group that DeepSpeed uses. It needs torch
only, since importing vLLM 0.32 takes seconds and a learner that sends over it has no other use for
it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch.distributed import (
    BroadcastOptions,
    PrefixStore,  # type: ignore[attr-defined]  # torch 2.13 exports it without saying so
    ProcessGroupGloo,
    TCPStore,  # type: ignore[attr-defined]
)


@dataclass
class GlooPlace:
    """Where an engine worker joins the group."""

    master_address: str
    """An address of the sender's node that the engine workers reach."""
    master_port: int
    rank_offset: int
    """Rank of the replica's first worker; the client sets it per replica (each replica has
    data_parallel_index 0, so without it all replicas would claim rank 1)."""
    world_size: int
    """1 + the engine workers of all replicas."""
    deadline_s: float
    """Longest wait until all have come, in seconds."""
    silence_s: float
    """Longest wait for one weight, in seconds."""


@dataclass
class GlooRound:
    """Names, dtypes and shapes of one round, in sending order. Plain JSON: tensors do not survive
    the engine's message format."""

    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]


def join(place: GlooPlace, rank: int, listen: socket.socket | None = None) -> ProcessGroupGloo:
    """Meet the other ranks; returns once all are there.

    Args:
        rank: in [0, place.world_size).
        listen: rank 0's, bound to the place and listening; the group takes it over.

    Raises:
        RuntimeError: a rank did not come in time (torch's DistError is one).
    """
    deadline = timedelta(seconds=place.deadline_s)
    store = TCPStore(
        place.master_address,
        place.master_port,
        is_master=listen is not None,
        timeout=deadline,
        wait_for_workers=False,
        master_listen_fd=None if listen is None else listen.fileno(),
    )
    if listen is not None:
        listen.detach()  # the store closes it
    group = ProcessGroupGloo(PrefixStore("weights", store), rank, place.world_size, deadline)
    # Only now: what a group is made with is how long it waits for a rank that has yet to come, too.
    group.set_timeout(timedelta(seconds=place.silence_s))  # type: ignore[attr-defined]
    return group


def broadcast(group: ProcessGroupGloo, tensor: torch.Tensor) -> None:
    """From rank 0, in place.

    Raises:
        RuntimeError: a peer has left, or took nothing for the group's `silence_s`.
    """
    options = BroadcastOptions()
    options.rootRank = 0
    group.broadcast([tensor], options).wait()  # type: ignore[attr-defined]  # not in the stubs
