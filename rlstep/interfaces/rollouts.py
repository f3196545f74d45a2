"""How groups are made from prompts, and what plug-ins that sample are handed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

from rlstep.interfaces.environments import Between, Environment, TurnFormat
from rlstep.interfaces.roles import GenerateRole, ScoreRole, Tokenizer
from rlstep.interfaces.steps import StepSplitter
from rlstep.types import Completion, Failure, Group, Prompt, Request, Rollout, Samples, Sampling


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
    conversing: Conversing | None = None
    """The run's strategy, where its rollouts are conversations with an environment."""
    between: Between | None = None
    """What stands between two turns there, by the strategy's format and the tokenizer."""
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
    """Scores that its rollouts carry already."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Scores of step models that it asks for while it collects."""
    continues: ClassVar[bool] = False
    """Whether it goes on from the middle of rollouts; see `Environment.replays`."""
    own_prompts: ClassVar[bool] = True
    """Whether every completion was sampled after the prompt that it is trained after; where not,
    the sampler's logprobs are another distribution's."""
    chooses: ClassVar[bool] = False
    """Whether scores choose, token by token or step by step, what stays of what was sampled: then
    its rollouts are no draws of the policy, and no policy gradient is trained on them."""
    reads_logprobs: ClassVar[bool] = False
    """Whether it looks at the sampler's logprobs, which must then be those of temperature 1."""

    @property
    def conversing(self) -> Conversing | None:
        """What goes on with its rollouts, where they are conversations with an environment."""
        return None

    @abstractmethod
    def collect(self, prompts: Sequence[Prompt], context: RolloutContext) -> AsyncIterator[Group]:
        """Yield one verified group a prompt as it is complete; a slow one holds up nobody."""


class Conversing(RolloutStrategy):
    """A strategy whose rollouts are conversations: their turns are answered by an environment."""

    environment: Environment
    """What answers."""
    format: TurnFormat
    """How its answers stand between the turns."""

    @property
    def conversing(self) -> Conversing:
        return self

    @abstractmethod
    def alone(self, samples_per_prompt: int, sampling: Sampling) -> RolloutStrategy:
        """The same conversations, so many of each prompt, drawn otherwise: for evaluation."""

    @abstractmethod
    async def go_on(
        self,
        parent: Rollout,
        steps: int,
        request: Request,
        sample: SampleOne,
        context: RolloutContext,
    ) -> list[Rollout] | Failure:
        """The request's n continuations of a rollout from after its first `steps` turns, which are
        replayed: what the environment had answered it answers again.

        Args:
            sample: asks the generators for one turn.

        Returns:
            Rollouts with what the environment says of them, or why one of them failed.
        """


SampleOne: TypeAlias = Callable[[Request], Awaitable["tuple[Completion, ...] | Failure"]]
"""One request, and its completions or why there are none; raises what the generators raise."""


class Roles(Protocol):
    """All roles of a run, as the loop uses them."""

    @property
    def version(self) -> int:
        """The policy version that the generators serve."""
        ...

    @property
    def sampled(self) -> int:
        """Tokens that the run has sampled so far, evaluations and judges apart."""
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
