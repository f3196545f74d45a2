"""The protocols of the three roles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlstep.types import (
    Completion,
    Failure,
    Floats,
    History,
    Observation,
    Request,
    Rollout,
    Samples,
    TokenIds,
)


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

    async def observe(self, history: History) -> Observation | Failure:
        """The run's environment's answer to the last action. The role knows the episode, or makes
        it again from the history."""
        ...

    def leave(self, history: History) -> None:
        """Of this episode, which is not done, nothing more will be asked. Does not wait."""
        ...


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
