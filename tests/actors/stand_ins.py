"""What stands for engines and verifiers where only their deaths matter; the actors are real.

Each is a process of its own, so this module loads no torch.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from rlstep.interfaces import Item
from rlstep.types import History, Observation, OutcomeScore, Request, Verdict
from tests.completions import make_completion

HELD = 1
"""The seed of a request that the first actor of a replica never answers."""


class Engine:
    """Answers at once, but as the first of its replica not what is held."""

    def __init__(self, first: bool, ends_in: str = "") -> None:
        self._first, self._ends_in, self._version = first, ends_in, -1

    async def start(self) -> None:
        if self._ends_in == "start":
            raise RuntimeError("head size 24 cannot be served")
        if self._ends_in == "start, without a word":
            os._exit(1)

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Any]]:
        for request in requests:
            if self._first and request.seed == HELD:
                await asyncio.Event().wait()
            tokens = [7] * request.sampling.max_tokens
            completion = make_completion(tokens, [(self._version, 0, len(tokens))])
            yield [(request.request_id, (completion,) * request.n)]  # type: ignore[misc]

    async def process_id(self) -> int:
        return os.getpid()

    async def receive(self, version: int) -> None:
        self._version = version

    async def weight_version(self) -> int:
        return self._version

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def idle_s(self) -> float:
        return 0.0

    async def close(self) -> None: ...


class Worker:
    """Hangs or dies where it is told to."""

    def __init__(self, ends_in: str) -> None:
        if ends_in == "start":
            raise RuntimeError("no verifier process could start")
        self._ends_in = ends_in

    async def verify(self, items: list[Item]) -> list[Any]:
        if items and self._ends_in == "verify":
            os._exit(1)
        right = OutcomeScore(value=1.0, verdict=Verdict.CORRECT, extracted="42")
        return [right] * len(items)

    async def observe(self, histories: list[History]) -> AsyncIterator[list[Any]]:
        for i, history in enumerate(histories):
            if i == 2 and self._ends_in == "observe":
                os._exit(1)
            yield [(i, Observation(text=history.episode_id))]  # type: ignore[misc]

    async def leave(self, histories: list[History]) -> None: ...

    async def idle_s(self) -> float:
        return 0.0

    async def close(self) -> None: ...
