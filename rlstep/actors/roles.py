"""Every role of a run behind one handle: started together, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.scorer.pooling import PoolingGroup
from rlstep.actors.scorer.scorer_group import ScorerGroup
from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.actors.weight_sync import WeightSync
from rlstep.checks import parts
from rlstep.config import Config, LearnerConfig
from rlstep.interfaces import AskContext, CallFormat, Loss, RolloutContext, StepModel, Tokenizer
from rlstep.plugins import ask_labellers
from rlstep.reporting.stages import stage
from rlstep.role_config import PROBE_TOKENS
from rlstep.rollouts.counting import CountingGenerator
from rlstep.rollouts.generate_door import GenerateDoor, door_token
from rlstep.scoring.judges.routing import RoutedScorer
from rlstep.tensors.tokenizers import reading_tags
from rlstep.thoughts import ThoughtTags
from rlstep.types import Rollout, Samples, TokenIds


class RunRoles:
    """Generators, scorers, and every learner (implements `interfaces.Roles`)."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._tags = {tag for tags in parts(config, ThoughtTags) for tag in (tags.start, tags.end)}
        self._tags |= {tag for written in parts(config, CallFormat) for tag in written.tags}
        self._reader = reading_tags(tokenizer, self._tags)
        talk = config.rollouts.conversing
        self._between = talk and talk.format.between(self._reader, talk.sampling.stop_token_ids)
        self._started: list[Any] = []
        """What must be closed, in the order of its start."""
        self.between_updates = asyncio.Event()
        """Cleared while an iteration's updates are under way: a run stops between iterations."""
        self.between_updates.set()

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
        config = self._config
        options = await self._place()
        alone = config.generator.transfer == "adapter"
        self.generators = GeneratorGroup(
            config.generator,
            config.policy.model.path,
            options["generator"],
            tempered=config.train_temperature != 1.0,
            tags=self._tags,
            lora_rank=config.policy.model.lora.rank if alone else 0,
        )
        self._started.append(self.generators)
        self._counting = CountingGenerator(self.generators, sampled)
        _, self.policy, self.step_models = await asyncio.gather(
            self._start_generators(),
            self._learner(
                "policy",
                config.policy,
                config.loss,
                options["policy"],
                temperature=config.train_temperature,
            ),
            asyncio.gather(
                *(self._step_model(model, options["step_models"]) for model in config.step_models)
            ),
        )
        talk = config.rollouts.conversing
        self.scorer = ScorerGroup(
            config.scorer,
            config.verifier,
            self.step_models,
            {},
            environment=talk and talk.environment,
        )
        self._started.append(self.scorer)
        asking = AskContext(generator=self.generators, tokenizer=self._tokenizer, seed=config.seed)
        with stage("judges") if config.judges else nullcontext():
            self._routed = await RoutedScorer.start(self.scorer, config.judges, asking)
        self._started.append(self._routed)
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

    async def _open_door(self) -> None:
        """Let other programs sample, where the configuration says so."""
        config = self._config.generator
        if not config.door_port:
            return
        door = GenerateDoor(
            self.generators,
            door_token(config.door_port),
            context=config.context,
            seed=self._config.seed,
            port=config.door_port,
        )
        with stage(f"door of the generators at {await door.open()}"):
            self._started.append(door)

    async def _start_generators(self) -> None:
        with stage(f"generators ({self._config.generator.replicas})"):
            await self.generators.start()

    async def _step_model(self, model: StepModel, options: dict[str, Any]) -> StepModelRole:
        read = model.reader(self._tokenizer)
        if model.engine is None:
            learner = await self._learner(model.source, model.learner, model.loss, options)
            return StepModelRole(model, learner, read)
        with stage(f"{model.source} (in vLLM)"):
            pooling = await PoolingGroup.start(
                model.learner,
                model.engine,
                name=model.source,
                deadline_s=self._config.deadline_s,
                actor_options=options,
            )
        self._started.append(pooling)
        return StepModelRole(model, pooling, read)

    async def _learner(
        self,
        name: str,
        config: LearnerConfig,
        loss: Loss | None,
        options: dict[str, Any],
        temperature: float = 1.0,
    ) -> LearnerGroup:
        with stage(f"learner of {name}"):
            group = await LearnerGroup.start(
                config,
                loss,
                name=name,
                seed=self._config.seed,
                deadline_s=self._config.deadline_s,
                actor_options=options,
                temperature=temperature,
            )
        self._started.append(group)
        return group

    async def _place(self) -> dict[str, dict[str, Any]]:
        """Ray options by role. With GPUs, one placement group holds a bundle for every actor."""
        config, place = self._config, self._config.placement
        wanted = {
            "generator": (config.generator.replicas, place.generator_gpus),
            "policy": (config.policy.world_size, place.policy_gpus),
            "step_models": (
                sum(actors_of(model) for model in config.step_models),
                place.step_model_gpus,
            ),
        }
        bundles = [{"GPU": gpus} for n, gpus in wanted.values() for _ in range(n) if gpus]
        if not bundles:
            return {role: {} for role in wanted}
        group = placement_group(bundles, strategy=place.strategy)
        self._started.append(_Placed(group))
        try:
            await asyncio.wait_for(group.ready(), self._config.deadline_s)
        except TimeoutError as error:
            raise TimeoutError(
                f"placement: {len(bundles)} bundles of {bundles} GPUs were not free within"
                f" {self._config.deadline_s:.0f} s; the cluster has {ray.cluster_resources()}"
            ) from error
        strategy = PlacementGroupSchedulingStrategy(group)
        return {
            role: {"num_gpus": gpus, "scheduling_strategy": strategy} if gpus else {}
            for role, (_, gpus) in wanted.items()
        }

    @property
    def version(self) -> int:
        return self.sync.version

    @property
    def sampled(self) -> int:
        return self._counting.sampled

    def context(self, iteration: int, purpose: str = "") -> RolloutContext:
        return RolloutContext(
            generator=self.generators if purpose else self._counting,
            scorer=self._routed,
            splitter=self._config.splitter,
            tokenizer=self._reader,
            conversing=self._config.rollouts.conversing,
            between=self._between,
            iteration=iteration,
            purpose=purpose,
            seed=self._config.seed,
        )

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return await ask_labellers(self._config.labellers, rollouts, context)

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        self.between_updates.clear()
        try:
            shares = await asyncio.gather(
                self._update(samples),
                *(self._train_model(role, rollouts, iteration) for role in self.step_models),
            )
            return {name: value for share in shares for name, value in share.items()}
        finally:
            self.between_updates.set()

    async def _update(self, samples: Samples) -> dict[str, float]:
        metrics = await self.sync.update(samples)
        return {name if "/" in name else f"train/{name}": v for name, v in metrics.items()}

    async def _train_model(
        self, role: StepModelRole, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        source, metrics = role.model.source, await role.train(rollouts, iteration)
        self.scorer.versions[source] += int(metrics.get("updates", 0.0))
        return {f"{source}/{name}": value for name, value in metrics.items()}

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

    async def close(self) -> None:
        """Close everything, the last started first; the first error is raised at the end."""
        errors = []
        while self._started:
            try:
                await self._started.pop().close()
            except Exception as error:  # the others must be closed all the same
                errors.append(error)
        if errors:
            raise errors[0]


def actors_of(model: StepModel) -> int:
    """How many actors a step model is spread over."""
    return model.learner.world_size if model.engine is None else model.engine.replicas


class _Placed:
    """A placement group as one more thing to close."""

    def __init__(self, group: Any) -> None:
        self._group = group

    async def close(self) -> None:
        remove_placement_group(self._group)
