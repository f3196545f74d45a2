"""The scorers, seen from the driver: batches, lost replicas, scores of step models."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError

from rlstep.actors.scorer.scorer import ScorerWorker
from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.config import ScorerConfig
from rlstep.interfaces import Environment, Item, Verifier
from rlstep.reporting.role_logs import note_last_lines, role_environment
from rlstep.scoring.processes.verifier_pool import Outcome
from rlstep.types import Failure, History, Observation, Rollout

logger = logging.getLogger(__name__)

_START_S = 180.0
"""Longest time for an actor and its verifier processes to start."""


class ScorerGroup:
    """Every replica of the scorer role (implements `interfaces.ScoreRole`).

    A replica has no state: one that dies, or does not answer, is started again and asked once more.

    Args:
        verifier: judges final answers.
        models: every step model with what computes its predictions.
        environment: answers the policy's turns, in a run whose rollouts are conversations.
        actor_options: Ray options of each replica.
    """

    def __init__(
        self,
        config: ScorerConfig,
        verifier: Verifier,
        models: Sequence[StepModelRole],
        actor_options: dict[str, Any],
        environment: Environment | None = None,
    ) -> None:
        self.versions = {role.model.source: 0 for role in models}
        """Updates each step model has made; travels with every score."""
        self._config = config
        self._verifier = verifier
        self._environment = environment
        self._models = models
        self._options = actor_options
        self._changing = asyncio.Lock()
        self._observing = 0
        self._actors: list[Any] = [self._create(i) for i in range(config.replicas)]
        self._free: asyncio.Queue[int] = asyncio.Queue()
        """Replicas with nothing to do: each verifies one batch at a time, so that the deadline of a
        batch is its own."""
        for replica in range(config.replicas):
            self._free.put_nowait(replica)

    def _create(self, replica: int) -> Any:
        environment = {"env_vars": role_environment(f"scorer-{replica}")}
        options = {
            "num_cpus": 0,
            "max_concurrency": 1000,
            "runtime_env": environment,
            **self._options,
        }
        worker = ray.remote(ScorerWorker).options(**options)
        return worker.remote(self._config, self._verifier, self._environment)

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.verify`. A batch that two replicas were lost on has the
        Failure 'scorer_lost' for its outcomes.

        Raises:
            RuntimeError: a replica does not start; names it and the cause.
        """
        if not rollouts:
            return []
        items: list[Item] = [self._verifier.item(rollout) for rollout in rollouts]
        replica = await self._free.get()
        try:
            outcomes = await self._outcomes(replica, items)
        finally:
            self._free.put_nowait(replica)
        return [r.with_scores(outcome=o) for r, o in zip(rollouts, outcomes, strict=True)]

    async def _outcomes(self, replica: int, items: list[Item]) -> list[Outcome]:
        # Every item has a deadline of its own in the pool; this one is for a lost replica.
        deadline = 60.0 + self._config.deadline_s * len(items)
        lost = ""
        for _ in range(2):
            actor = self._actors[replica]
            try:
                return await self._ask(replica, items, deadline)
            except (RayActorError, TimeoutError) as error:
                lost = f"scorer {replica}: {error}"
                await self._replace(replica, actor, error)
        return [Failure(reason="scorer_lost", detail=lost)] * len(items)

    async def _ask(self, replica: int, items: list[Item], deadline: float) -> list[Outcome]:
        try:
            return await asyncio.wait_for(self._actors[replica].verify.remote(items), deadline)
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {deadline:.0f} s") from error

    async def _replace(self, replica: int, actor: Any, error: Exception) -> None:
        """Start a lost replica again, if nobody has yet: of one death many hear."""
        async with self._changing:
            if self._actors[replica] is actor:
                logger.warning("scorer %d is lost and started again: %s", replica, error)
                await self._restart(replica)

    async def _restart(self, replica: int) -> None:
        ray.kill(self._actors[replica])
        self._actors[replica] = self._create(replica)
        try:
            await self._ask(replica, [], _START_S)
        except (RayActorError, TimeoutError) as error:
            note_last_lines(error, f"scorer-{replica}")
            raise RuntimeError(f"scorer {replica} does not start: {error}") from error

    async def observe(self, history: History) -> Observation | Failure:
        """See `interfaces.ScoreRole.observe`. An answer that two replicas were lost on is a
        Failure('scorer_lost').

        Raises:
            RuntimeError: a replica does not start; names it and the cause.
        """
        replica = self._home(history.episode_id)
        self._observing += 1
        # Every call has a deadline of its own in the pool, and waits for others there.
        deadline = (
            60.0 + _START_S + self._config.deadline_s * (self._observing + 2 * len(history.actions))
        )
        lost = ""
        try:
            for _ in range(2):
                actor = self._actors[replica]
                try:
                    return await asyncio.wait_for(actor.observe.remote(history), deadline)
                except (RayActorError, TimeoutError) as error:
                    lost = f"scorer {replica}: {error or f'nothing within {deadline:.0f} s'}"
                    await self._replace(replica, actor, error)
        finally:
            self._observing -= 1
        return Failure(reason="scorer_lost", detail=lost)

    async def leave(self, episode_id: str) -> None:
        """See `interfaces.ScoreRole.leave`; with a replica that is lost the episode is, too."""
        with suppress(RayActorError):
            await self._actors[self._home(episode_id)].leave.remote(episode_id)

    def _home(self, episode_id: str) -> int:
        """The replica whose processes have an episode."""
        return zlib.crc32(episode_id.encode()) % len(self._actors)

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.score_steps`; unchanged where the run has no step model."""
        scored = list(rollouts)
        if not scored:
            return []
        sources = [role.model.source for role in self._models]
        columns = await asyncio.gather(
            *(role.score(rollouts, self.versions[role.model.source]) for role in self._models)
        )
        for source, scores in zip(sources, columns, strict=True):
            scored = [r.with_scores(**{source: s}) for r, s in zip(scored, scores, strict=True)]
        return scored

    async def close(self) -> None:
        """End the actors; of one that is lost nothing is left to end."""
        for replica, actor in enumerate(self._actors):
            try:
                await actor.close.remote()
            except RayActorError as error:
                logger.warning("scorer %d was lost before it was closed: %s", replica, error)
            ray.kill(actor)
