"""A replica of the scorer role: verdicts and observations from killable processes.

Its module loads no torch, since every replica is a process.
"""

from __future__ import annotations

from rlstep.config import ScorerConfig
from rlstep.interfaces import Environment, Item, Verifier
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.scoring.processes.verifier_pool import Outcome, VerifierPool
from rlstep.types import Failure, History, Observation


class ScorerWorker:
    """One replica: pools of processes for verifier and environment on its node."""

    def __init__(
        self, config: ScorerConfig, verifier: Verifier, environment: Environment | None
    ) -> None:
        self._pool = VerifierPool(verifier, workers=config.processes, deadline_s=config.deadline_s)
        self._episodes = environment and EnvironmentPool(
            environment,
            processes=config.processes,
            threads=config.episodes,
            deadline_s=config.deadline_s,
        )

    async def verify(self, items: list[Item]) -> list[Outcome]:
        return await self._pool.verify(items)

    async def observe(self, history: History) -> Observation | Failure:
        assert self._episodes is not None, "a run without an environment"
        return await self._episodes.observe(history)

    async def leave(self, episode_id: str) -> None:
        assert self._episodes is not None, "a run without an environment"
        await self._episodes.leave(episode_id)

    async def close(self) -> None:
        self._pool.close()
        if self._episodes is not None:
            await self._episodes.close()
