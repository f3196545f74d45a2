"""The scorer role: verdicts from killable processes, scores read out of step models' forwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ray

from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.config import ScorerConfig
from rlstep.interfaces import Item, Verifier
from rlstep.scoring.processes.verifier_pool import Outcome, VerifierPool
from rlstep.types import Rollout


class ScorerWorker:
    """One replica: a pool of verifier processes on its node."""

    def __init__(self, config: ScorerConfig, verifier: Verifier) -> None:
        self._pool = VerifierPool(verifier, workers=config.processes, deadline_s=config.deadline_s)

    async def verify(self, items: list[Item]) -> list[Outcome]:
        return await self._pool.verify(items)

    async def close(self) -> None:
        self._pool.close()


class ScorerGroup:
    """Every replica of the scorer role (implements `interfaces.ScoreRole`).

    Args:
        verifier: judges final answers.
        models: every step model with what computes its predictions.
        actor_options: Ray options of each replica.
    """

    def __init__(
        self,
        config: ScorerConfig,
        verifier: Verifier,
        models: Sequence[StepModelRole],
        actor_options: dict[str, Any],
    ) -> None:
        options = {"num_cpus": 0, "max_concurrency": 100, **actor_options}
        kind = ray.remote(ScorerWorker).options(**options)
        self.versions = {role.model.source: 0 for role in models}
        """Updates each step model has made; travels with every score."""
        self._config = config
        self._verifier = verifier
        self._models = models
        self._actors: list[Any] = [kind.remote(config, verifier) for _ in range(config.replicas)]
        self._free: asyncio.Queue[int] = asyncio.Queue()
        """Replicas with nothing to do: each verifies one batch at a time, so that the deadline of a
        batch is its own."""
        for replica in range(config.replicas):
            self._free.put_nowait(replica)

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.verify`.

        Raises:
            TimeoutError: a replica did not answer; names it.
        """
        if not rollouts:
            return []
        items = [self._verifier.item(rollout) for rollout in rollouts]
        replica = await self._free.get()
        # Every item has a deadline of its own in the pool; this one is for a lost replica.
        deadline = 60.0 + self._config.deadline_s * len(items)
        try:
            outcomes = await asyncio.wait_for(self._actors[replica].verify.remote(items), deadline)
        except TimeoutError as error:
            raise TimeoutError(
                f"scorer {replica}: verify did not finish within {deadline:.0f} s"
            ) from error
        finally:
            self._free.put_nowait(replica)
        return [r.with_scores(outcome=o) for r, o in zip(rollouts, outcomes, strict=True)]

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
        for actor in self._actors:
            await actor.close.remote()
            ray.kill(actor)
