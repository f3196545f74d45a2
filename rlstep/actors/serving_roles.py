"""The roles that sample and score, without one that trains: what an evaluation needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.scorer.pooling import PoolingGroup
from rlstep.actors.scorer.scorer_group import ScorerGroup
from rlstep.actors.scorer.step_models import StepModelRole, start_frozen
from rlstep.checks import parts
from rlstep.config import Config, GeneratorConfig, LearnerConfig
from rlstep.interfaces import AskContext, CallFormat, Loss, RolloutContext, StepModel, Tokenizer
from rlstep.reporting.stages import stage
from rlstep.rollouts.generate_door import GenerateDoor, door_token
from rlstep.scoring.judges.routing import RoutedScorer
from rlstep.tensors.tokenizers import reading_tags
from rlstep.thoughts import ThoughtTags


class ServingRoles:
    """Generators, scorers, judges and step models as they are on disk.

    Args:
        step_models: those that score; none is trained.
    """

    def __init__(
        self, config: Config, tokenizer: Tokenizer, step_models: Sequence[StepModel] = ()
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._scoring = step_models
        self._tags = {tag for tags in parts(config, ThoughtTags) for tag in (tags.start, tags.end)}
        self._tags |= {tag for written in parts(config, CallFormat) for tag in written.tags}
        self._reader = reading_tags(tokenizer, self._tags)
        talk = config.rollouts.conversing
        self._between = talk and talk.format.between(self._reader, talk.sampling.stop_token_ids)
        self._started: list[Any] = []
        """What must be closed, in the order of its start."""

    async def serve(self) -> None:
        """Start every role at once; generators have the policy's weights from its folder."""
        place = self._config.placement
        size = sum(actors_of(model) for model in self._scoring)
        wanted = {"step_models": (size, place.step_model_gpus)}
        options = await self._place(wanted)
        generator = self._config.generator
        if generator.transfer == "adapter":  # no adapter comes: the folder has all weights
            generator = replace(generator, transfer="rlstep_gloo")
        self._make_generators(generator, options["generator"])
        _, self.step_models = await asyncio.gather(
            self._start_generators(),
            asyncio.gather(
                *(self._frozen_model(model, options["step_models"]) for model in self._scoring)
            ),
        )
        self.generators.on_recreated = _with_their_own_weights
        await self._start_scorers()
        await self._open_door()

    def _make_generators(
        self, config: GeneratorConfig, options: dict[str, Any], lora_rank: int = 0
    ) -> None:
        self.generators = GeneratorGroup(
            config,
            self._config.policy.model.path,
            options,
            tempered=self._config.train_temperature != 1.0,
            tags=self._tags,
            lora_rank=lora_rank,
        )
        self._started.append(self.generators)

    async def _start_scorers(self) -> None:
        config, talk = self._config, self._config.rollouts.conversing
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

    async def _frozen_model(self, model: StepModel, options: dict[str, Any]) -> StepModelRole:
        config = self._config
        role = await start_frozen(
            model,
            self._tokenizer,
            seed=config.seed,
            deadline_s=config.deadline_s,
            options=options,
        )
        self._started.append(role.learner)
        return role

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
        with stage(f"{name} (frozen)" if loss is None else f"learner of {name}"):
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

    async def _place(self, wanted: dict[str, tuple[int, float]]) -> dict[str, dict[str, Any]]:
        """Ray options by role. With GPUs, one placement group holds a bundle for every actor.

        Args:
            wanted: beside the generators': how many actors, and GPUs of each.
        """
        config, place = self._config, self._config.placement
        wanted = {"generator": (config.generator.replicas, place.generator_gpus), **wanted}
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

    def context(self, iteration: int, purpose: str = "") -> RolloutContext:
        return RolloutContext(
            generator=self.generators,
            scorer=self._routed,
            splitter=self._config.splitter,
            tokenizer=self._reader,
            conversing=self._config.rollouts.conversing,
            between=self._between,
            iteration=iteration,
            purpose=purpose,
            seed=self._config.seed,
        )

    async def close(self) -> None:
        """Close everything, the last started first; the first error is raised at the end."""
        for role in self._started:
            if isinstance(role, GeneratorGroup):
                await role.settle()  # or it would recover from the end of the others
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


async def _with_their_own_weights() -> None:
    """A replica that is started again has read them from their folder."""


class _Placed:
    """A placement group as one more thing to close."""

    def __init__(self, group: Any) -> None:
        self._group = group

    async def close(self) -> None:
        remove_placement_group(self._group)
