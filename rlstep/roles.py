"""The protocols of the three roles, and what a plug-in is handed to work with them.

Re-exported by interfaces.py, where the plug points are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlstep.types import (
    Completion,
    Failure,
    Floats,
    Request,
    Rollout,
    Samples,
    TokenIds,
)

if TYPE_CHECKING:
    from rlstep.interfaces import StepSplitter


class Tokenizer(Protocol):
    """What rlstep uses of a Hugging Face tokenizer."""

    eos_token_id: int | None
    pad_token_id: int | None
    chat_template: str | None

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = ...) -> str: ...
    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any: ...


Answer: TypeAlias = tuple[Request, tuple[Completion, ...] | Failure]


class GenerateRole(Protocol):
    """The generators, seen from the driver."""

    def generate(self, requests: Sequence[Request]) -> AsyncIterator[Answer]:
        """Answers in the order in which they finish, one item a request, each exactly once."""
        ...


class ScoreRole(Protocol):
    """The scorers, seen from the driver."""

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same rollouts, in order, each with an 'outcome' OutcomeScore or Failure."""
        ...

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same rollouts, in order, each with the scores (or a Failure) of every step model.

        Called with a whole batch in a fixed order, so that the scores are reproducible bit by bit.
        """
        ...


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


class LearnerRole(Protocol):
    """One model and its optimizer, seen from the driver."""

    async def train(self, samples: Samples) -> dict[str, float]:
        """One pass over the samples (or as many epochs as configured). Returns averaged metrics.

        No samples: no update, and the metrics say so.
        """
        ...

    async def predict(
        self, sequences: Sequence[TokenIds], *, log_ratios: bool = ...
    ) -> list[Floats]:
        """Per row of token ids (int32 [L]) float32 [L]: logprobs, or a scalar head's outputs (of a
        wider head [L, outputs]); with `log_ratios` minus those of the reference, the first
        model."""
        ...

    async def embed(
        self, sequences: Sequence[TokenIds], positions: Sequence[NDArray[np.integer]]
    ) -> list[Floats]:
        """Per row of token ids, at K of its positions, float32 [K, 1 + d]: a scalar head's output
        and its inputs, the last layer's embedding."""
        ...

    async def save(self, directory: str) -> None: ...
    async def restore(self, directory: str) -> None: ...
    async def export(self, directory: str) -> None:
        """A Hugging Face folder that transformers and vLLM load."""
        ...


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
