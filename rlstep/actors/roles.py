"""Every role of a run behind one handle: started together, closed together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ray.exceptions import RayError

from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.scorer.pooling import PoolingGroup
from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.actors.serving_roles import ServingRoles, actors_of
from rlstep.actors.weight_sync import WeightSync
from rlstep.config import Config
from rlstep.interfaces import RolloutContext, Tokenizer
from rlstep.measuring.busy import Busy
from rlstep.measuring.peak_memory import own_peak_gib
from rlstep.plugins import ask_labellers
from rlstep.reporting.stages import stage
from rlstep.role_config import PROBE_TOKENS
from rlstep.rollouts.counting import CountingGenerator
from rlstep.types import Rollout, Samples, TokenIds

logger = logging.getLogger(__name__)

_ANSWER_S = 30.0
"""How long an actor has to say how much memory it has held."""


class RunRoles(ServingRoles):
    """Generators, scorers, and every learner (implements `interfaces.Roles`)."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer, config.step_models)
        self.between_updates = asyncio.Event()
        """Cleared while an iteration's updates are under way: a run stops between iterations."""
        self.between_updates.set()
        self.whole = True
        """Whether the learners hold whole iterations: False in the middle of an iteration's
        updates, and after updates that failed."""
        self.busy = Busy()
        """Of all roles, since the last iteration's updates."""

    async def start(
        self, probe: TokenIds, resume_from: Path | None, version: int, sampled: int = 0
    ) -> None:
        """Start every role at once, restore the learners, send the first weights.

        Args:
            probe: token ids to make the parity probe's prompt of.
            resume_from: a checkpoint's directory, or None.
            version: the policy version that the weights have.
            sampled: tokens that the run has sampled for training before.
        """
        config, place = self._config, self._config.placement
        options = await self._place(
            {
                "policy": (config.policy.world_size, place.policy_gpus),
                "step_models": (
                    sum(actors_of(model) for model in config.step_models),
                    place.step_model_gpus,
                ),
            }
        )
        alone = config.generator.transfer == "adapter"
        rank = config.policy.model.lora.rank if alone else 0
        self._options = options
        self._make_generators(config.generator, options["generator"], rank)
        self._counting = CountingGenerator(self.generators, sampled)
        _, self.policy, self.step_models = await asyncio.gather(
            self._start_generators(),
            self._policy(),
            asyncio.gather(
                *(self._step_model(model, options["step_models"]) for model in config.step_models)
            ),
        )
        await self._start_scorers()
        self.generators.busy = self.scorer.busy = self.busy
        if resume_from is not None:
            with stage(f"learners restored from {resume_from}"):
                await self._each_learner("restore", resume_from)
        most = config.generator.context - PROBE_TOKENS
        length = min(max(len(probe), config.generator.probe_prompt), most)
        prompt = np.resize(probe, length).astype(np.int32)
        self.sync = WeightSync(self.policy, self.generators, prompt, config.longest)
        with stage("first weight sync"):
            await self.sync.start(version)
        await self._open_door()

    async def _policy(self) -> LearnerGroup:
        config = self._config
        temperature = config.train_temperature
        return await self._learner(
            "policy", config.policy, config.loss, self._options["policy"], temperature
        )

    async def learners_again(self, resume_from: Path | None, version: int, sampled: int) -> None:
        """End every learner and start it again; generators and scorers stay.

        Args: see `start`.

        Raises:
            LearnerLost: a successor ended, too.
            ValueError, TimeoutError: see `LearnerGroup.start`.
        """
        for group in [role for role in self._started if isinstance(role, LearnerGroup)]:
            group.kill()
            self._started.remove(group)
        policy = asyncio.ensure_future(self._policy())
        models = [asyncio.ensure_future(self._model_again(role)) for role in self.step_models]
        # Of a start that fails no other one is left that would come later.
        await asyncio.gather(policy, *models, return_exceptions=True)
        self.policy, self.step_models = policy.result(), [model.result() for model in models]
        self.scorer.models = self.step_models
        if resume_from is not None:
            await self._each_learner("restore", resume_from)
        await self.sync.rejoin(self.policy, version)
        self._counting.sampled = sampled
        self.whole = True

    async def _model_again(self, role: StepModelRole) -> StepModelRole:
        if not isinstance(role.learner, LearnerGroup):
            return role
        return await self._step_model(role.model, self._options["step_models"])

    @property
    def version(self) -> int:
        return self.sync.version

    @property
    def sampled(self) -> int:
        return self._counting.sampled

    @property
    def signs(self) -> int:
        """Grows while any role gets done what it was asked and has no deadline for."""
        pooled = (role.learner for role in self.step_models)
        found = sum(each.signs for each in pooled if isinstance(each, PoolingGroup))
        return found + self.generators.signs + self.scorer.signs

    def context(self, iteration: int, purpose: str = "") -> RolloutContext:
        context = super().context(iteration, purpose)
        return context if purpose else replace(context, generator=self._counting)

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return await ask_labellers(self._config.labellers, rollouts, context)

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        self.between_updates.clear()
        self.whole = False
        try:
            shares = await asyncio.gather(
                self._update(samples),
                *(self._train_model(role, rollouts, iteration) for role in self.step_models),
            )
            self.whole = True
            busy = {f"busy/{role}": share for role, share in self.busy.shares().items()}
            return busy | {name: value for share in shares for name, value in share.items()}
        finally:
            self.between_updates.set()

    async def _update(self, samples: Samples) -> dict[str, float]:
        metrics = await self.sync.update(samples)
        return {name if "/" in name else f"train/{name}": v for name, v in metrics.items()}

    async def _train_model(
        self, role: StepModelRole, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        source = role.model.source
        with self.busy.of(source):
            metrics = await role.train(rollouts, iteration)
        self.scorer.versions[source] += int(metrics.get("updates", 0.0))
        return {f"{source}/{name}": value for name, value in metrics.items()}

    async def peaks_gib(self) -> dict[str, float]:
        """The most memory that an actor of each role has held, in GiB, with the processes below it;
        under 'driver' this process alone. A role that does not say is left out."""
        asked: dict[str, list[Any]] = {
            "generator": self.generators.actors,
            "scorer": self.scorer.actors,
            "policy": list(self.policy.actors),
        }
        asked |= {role.model.source: list(role.learner.actors) for role in self.step_models}
        found = {}
        for role, actors in asked.items():
            try:
                answers = asyncio.gather(*(actor.peak_gib.remote() for actor in actors))
                found[role] = max(await asyncio.wait_for(answers, _ANSWER_S))
            except (RayError, TimeoutError) as error:
                logger.warning("%s does not say how much memory it has held: %s", role, error)
        return {**found, "driver": own_peak_gib()}

    async def save(self, directory: Path) -> None:
        await self._each_learner("save", directory)

    async def _each_learner(self, verb: str, directory: Path) -> None:
        """Of those that are trained: a frozen model is in its own folder already."""
        learners: dict[str, LearnerGroup | PoolingGroup] = {"policy": self.policy}
        learners |= {
            role.model.source: role.learner
            for role in self.step_models
            if role.model.loss is not None
        }
        await asyncio.gather(
            *(getattr(learner, verb)(str(directory / name)) for name, learner in learners.items())
        )
