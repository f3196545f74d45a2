"""The roles of a study that only samples and scores: no learner of the policy, no run."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from arithmetic_base import scalar_learner

from rlstep.config import GeneratorConfig, ModelConfig, ScorerConfig
from rlstep.interfaces import RolloutContext, StepSplitter
from rlstep.rollouts.counting import CountingGenerator
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tensors.tokenizers import read_tokenizer

EPOCHS = 3
"""Of a PRM over each of its batches."""


class Roles:
    """The policy's generators, and verifiers with or without a PRM."""

    def __init__(self, policy: str, context: int, log: Path) -> None:
        self._policy, self._context, self._log = policy, context, log
        self.tokenizer: Any = read_tokenizer(policy)
        self.generator: CountingGenerator | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        """Ray and the engine, once."""
        if self.generator is not None:
            return
        from rlstep.running.cluster import start_ray

        start_ray(stack, self._log)
        from rlstep.actors.generator.generator_group import GeneratorGroup  # imports ray

        config = GeneratorConfig(context=self._context, kv_cache_mib=128)
        generators = GeneratorGroup(config, self._policy, {})
        stack.push_async_callback(generators.close)
        await generators.start()
        self.generator = CountingGenerator(generators)

    @property
    def sampled(self) -> int:
        """Tokens so far."""
        return self.generator.sampled if self.generator else 0

    async def learner(self, stack: AsyncExitStack, path: str, loss: Any, seed: int) -> Any:
        """A PRM that starts from a folder; frozen without a loss."""
        from rlstep.actors.learner.learner_group import LearnerGroup

        config = replace(scalar_learner(), model=ModelConfig(path=path), epochs=EPOCHS)
        learner = await LearnerGroup.start(config, loss, name="prm", seed=seed, deadline_s=600.0)
        stack.push_async_callback(learner.close)
        return learner

    async def scorer(self, stack: AsyncExitStack, folder: str) -> Any:
        """Verifies, and scores steps with the PRM in a folder; '' has none."""
        from rlstep.actors.scorer.scorer_group import ScorerGroup
        from rlstep.actors.scorer.step_models import StepModelRole

        models = []
        if folder:
            prm = FrozenPrm(learner=replace(scalar_learner(), model=ModelConfig(path=folder)))
            learner = await self.learner(stack, folder, None, 0)
            models.append(StepModelRole(prm, learner, prm.reader(self.tokenizer)))
        scorer = ScorerGroup(ScorerConfig(), AnswerLine(), models, {})
        stack.push_async_callback(scorer.close)
        return scorer

    def context(self, scorer: Any, splitter: StepSplitter, seed: int, what: str) -> RolloutContext:
        assert self.generator is not None
        return RolloutContext(
            generator=self.generator,
            scorer=scorer,
            splitter=splitter,
            tokenizer=self.tokenizer,
            iteration=0,
            purpose=what,
            seed=seed,
        )
