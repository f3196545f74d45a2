"""A replica of the scorer role: verdicts and observations from killable processes.

Its module loads no torch, since every replica is a process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from rlstep.config import ScorerConfig
from rlstep.interfaces import Environment, Item, Verifier
from rlstep.measuring.peak_memory import peak_gib
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.scoring.processes.verifier_pool import Outcome, VerifierPool
from rlstep.types import Failure, History, Observation

Answered = tuple[int, Observation | Failure]
"""The number of a history among those asked, and what is answered to it."""


class ScorerWorker:
    """One replica: pools of processes for verifier and environment on its node."""

    def __init__(
        self, config: ScorerConfig, verifier: Verifier, environment: Environment | None
    ) -> None:
        self._asked, self._asked_at = 0, 0.0
        self._pool = VerifierPool(verifier, workers=config.processes, deadline_s=config.deadline_s)
        self._episodes = environment and EnvironmentPool(
            environment,
            processes=config.processes,
            threads=config.episodes,
            deadline_s=config.deadline_s,
        )

    async def verify(self, items: list[Item]) -> list[Outcome]:
        with self._working():
            return await self._pool.verify(items)

    @contextmanager
    def _working(self) -> Iterator[None]:
        if not self._asked:
            self._asked_at = time.monotonic()
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    async def idle_s(self) -> float:
        """Seconds since anything was decided or answered, or since there has been anything to."""
        newest = [self._asked_at, self._pool.decided_at]
        if self._episodes is not None:
            newest.append(self._episodes.answered_at)
        return time.monotonic() - max(newest)

    async def observe(self, histories: list[History]) -> AsyncIterator[list[Answered]]:
        """Answers as they come, each exactly once; several that are ready come together."""
        assert self._episodes is not None, "a run without an environment"
        done: asyncio.Queue[Answered | Exception] = asyncio.Queue()
        observe = self._episodes.observe

        async def answer(index: int, history: History) -> None:
            try:
                with self._working():
                    done.put_nowait((index, await observe(history)))
            except Exception as error:  # raised below
                done.put_nowait(error)

        tasks = [asyncio.create_task(answer(i, history)) for i, history in enumerate(histories)]
        try:
            answered = 0
            while answered < len(histories):
                ready = [await done.get()]
                while not done.empty():
                    ready.append(done.get_nowait())
                for item in ready:
                    if isinstance(item, Exception):
                        raise item
                answered += len(ready)
                yield ready  # type: ignore[misc]
        finally:
            for task in tasks:
                task.cancel()

    async def leave(self, histories: list[History]) -> None:
        assert self._episodes is not None, "a run without an environment"
        await asyncio.gather(*map(self._episodes.leave, histories))

    async def peak_gib(self) -> float:
        """See `measuring.peak_memory`."""
        return peak_gib()

    async def close(self) -> None:
        self._pool.close()
        if self._episodes is not None:
            await self._episodes.close()
