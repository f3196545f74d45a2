"""The scorer role: verdicts from killable processes, step scores read out of a PRM's forward."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray

from rlstep.actors.learner_group import LearnerGroup
from rlstep.config import ScorerConfig
from rlstep.interfaces import Verifier
from rlstep.scoring.verifier_pool import Item, Outcome, VerifierPool
from rlstep.types import Failure, Rollout, Score, StepScores


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
        prm: the learner whose forward scores steps, or None.
        actor_options: Ray options of each replica.
    """

    def __init__(
        self,
        config: ScorerConfig,
        verifier: Verifier,
        prm: LearnerGroup | None,
        actor_options: dict[str, Any],
    ) -> None:
        options = {"num_cpus": 0, "max_concurrency": 100, **actor_options}
        kind = ray.remote(ScorerWorker).options(**options)
        self.prm_version = 0
        """Updates the PRM has made; travels with every score."""
        self._config = config
        self._prm = prm
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
        """See `interfaces.ScoreRole.score_steps`; unchanged where the run has no PRM."""
        if self._prm is None or not rollouts:
            return list(rollouts)
        rows = await self._prm.predict([r.prefix_ids(len(r.steps)) for r in rollouts])
        return [
            rollout.with_scores(prm=read_out(rollout, row, self.prm_version))
            for rollout, row in zip(rollouts, rows, strict=True)
        ]

    async def close(self) -> None:
        for actor in self._actors:
            await actor.close.remote()
            ray.kill(actor)


def read_out(rollout: Rollout, logits: np.ndarray, version: int) -> Score:
    """A PRM's step scores: the sigmoid of its head at each step's last token.

    Args:
        logits: float32 [P + T], the scalar head's outputs for prompt and completion.
    """
    last = len(rollout.prompt.token_ids) + np.array([s.end - 1 for s in rollout.steps], dtype=int)
    picked = logits[last].astype(np.float64)
    if not np.isfinite(picked).all():
        return Failure(reason="not_finite", detail=f"PRM version {version}")
    return StepScores(values=(1 / (1 + np.exp(-picked))).astype(np.float32), version=version)
