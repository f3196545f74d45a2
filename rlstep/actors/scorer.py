"""The scorer role: verdicts from killable processes, scores read out of step models' forwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ray

from rlstep.actors.learner_group import LearnerGroup
from rlstep.config import ScorerConfig
from rlstep.interfaces import StepModel, Verifier
from rlstep.scoring.verifier_pool import Item, Outcome, VerifierPool
from rlstep.sequences import last_tokens
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
        models: every step model with the learner that holds it.
        actor_options: Ray options of each replica.
    """

    def __init__(
        self,
        config: ScorerConfig,
        verifier: Verifier,
        models: Sequence[tuple[StepModel, LearnerGroup]],
        actor_options: dict[str, Any],
    ) -> None:
        options = {"num_cpus": 0, "max_concurrency": 100, **actor_options}
        kind = ray.remote(ScorerWorker).options(**options)
        self.versions = {model.source: 0 for model, _ in models}
        """Updates each step model has made; travels with every score."""
        self._config = config
        self._models = models
        self._actors: list[Any] = [kind.remote(config, verifier) for _ in range(config.replicas)]
        self._next = 0

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.verify`.

        Raises:
            TimeoutError: a replica did not answer; names it.
        """
        if not rollouts:
            return []
        self._next = (self._next + 1) % len(self._actors)
        items = [(r.completion.text, r.prompt.answer) for r in rollouts]
        # Every item has a deadline of its own in the pool; this one is for a lost replica.
        deadline = 60.0 + self._config.deadline_s * len(items)
        try:
            outcomes = await asyncio.wait_for(
                self._actors[self._next].verify.remote(items), deadline
            )
        except TimeoutError as error:
            raise TimeoutError(
                f"scorer {self._next}: verify did not finish within {deadline:.0f} s"
            ) from error
        return [r.with_scores(outcome=o) for r, o in zip(rollouts, outcomes, strict=True)]

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.score_steps`; unchanged where the run has no step model."""
        scored = list(rollouts)
        if not scored:
            return []
        sequences = [r.prefix_ids(len(r.steps)) for r in rollouts]
        rows = await asyncio.gather(
            *(
                learner.embed(sequences, [last_tokens(r) for r in rollouts])
                if model.embeds
                else learner.predict(sequences, log_ratios=model.log_ratios)
                for model, learner in self._models
            )
        )
        for (model, _), predictions in zip(self._models, rows, strict=True):
            name, version = model.source, self.versions[model.source]
            scores = model.read_out_all(rollouts, predictions, version)
            scored = [
                rollout.with_scores(**{name: score})
                for rollout, score in zip(scored, scores, strict=True)
            ]
        return scored

    async def close(self) -> None:
        for actor in self._actors:
            await actor.close.remote()
            ray.kill(actor)
