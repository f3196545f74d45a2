"""How groups are made from prompts, and what plug-ins that sample are handed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rlstep.interfaces.roles import GenerateRole, ScoreRole, Tokenizer
from rlstep.interfaces.steps import StepSplitter
from rlstep.types import Group, Prompt, Rollout, Samples, Sampling


@dataclass(frozen=True, kw_only=True)
class AskContext:
    """What the model behind a judge works with."""

    generator: GenerateRole
    tokenizer: Tokenizer
    """The policy's. Completions are decoded with it, and never encoded again."""
    seed: int
    """The run's seed; see `rollouts.requests.request_seed`."""


@dataclass(frozen=True, kw_only=True)
class RolloutContext(AskContext):
    """What a rollout strategy works with."""

    scorer: ScoreRole
    splitter: StepSplitter
    iteration: int
    purpose: str = ""
    """Keeps the ids (and so the seeds) of evaluation apart from training's: 'eval', 'prm_probe'."""

    @property
    def scope(self) -> str:
        """What every request id of this context starts with."""
        return f"{self.purpose}{self.iteration}"


class RolloutStrategy(ABC):
    """How groups are made from prompts, written against the generate and score roles alone."""

    sampling: Sampling
    """How completions are drawn."""
    sources: ClassVar[frozenset[str]] = frozenset()
    """Step scores that its rollouts carry already."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Scores of step models that it asks for while it collects."""
    own_prompts: ClassVar[bool] = True
    """Whether every completion was sampled after the prompt that it is trained after; where not,
    the sampler's logprobs are another distribution's."""

    @abstractmethod
    def collect(self, prompts: Sequence[Prompt], context: RolloutContext) -> AsyncIterator[Group]:
        """Yield one verified group a prompt as it is complete; a slow one holds up nobody."""


class Roles(Protocol):
    """All roles of a run, as the loop uses them."""

    @property
    def version(self) -> int:
        """The policy version that the generators serve."""
        ...

    def context(self, iteration: int, purpose: str = ...) -> RolloutContext: ...

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, with the scores of every labeller."""
        ...

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        """Train the policy, bring every generator to the new weights, train the step models that
        are due in this iteration (from 0)."""
        ...
