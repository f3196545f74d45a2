"""An engine's half of a weight transfer without an engine: a Ray actor that takes weights in, and
fails where a test says."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import ray
import torch

from rlstep.actors.weights.gloo_group import GlooPlace, broadcast, join


class StubEngine:
    """Args:
    fails: 'refuses', 'idles' (takes no more weights, and answers what it is asked) or 'stops' (its
        process stands still), each after `after` weights of its first round; '' never.
    """

    def __init__(self, fails: str = "", after: int = 0) -> None:
        self.fails = fails
        self.after = after
        self.weights: dict[str, torch.Tensor] = {}
        self.version = ""

    async def process_id(self) -> int:
        return os.getpid()

    async def init_weight_transfer_engine(self, place: dict[str, Any]) -> None:
        it = GlooPlace(**place)
        self.group = await asyncio.to_thread(join, it, it.rank_offset)

    async def start_weight_update(self) -> None:
        if self.fails == "refuses" and not self.after:
            self.fails = ""
            raise RuntimeError("no update today")

    async def update_weights(self, sent: dict[str, Any]) -> None:
        rows = zip(sent["names"], sent["dtypes"], sent["shapes"], strict=True)
        for taken, (name, dtype, shape) in enumerate(rows):
            if self.fails and taken == self.after:
                await self._fail()
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            await asyncio.to_thread(broadcast, self.group, weight)
            self.weights[name] = weight

    async def _fail(self) -> None:
        fails, self.fails = self.fails, ""
        if fails == "refuses":
            del self.group
            raise RuntimeError("no more weights")
        if fails == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        await asyncio.Event().wait()

    async def finish_weight_update(self, version: str) -> None:
        self.version = version

    async def served(self) -> tuple[str, dict[str, float]]:
        """The version, and the sum of every weight."""
        return self.version, {n: float(w.double().sum()) for n, w in self.weights.items()}


def start(*arguments: Any) -> Any:
    """Its actor."""
    return ray.remote(StubEngine).options(num_cpus=0, max_concurrency=8).remote(*arguments)
