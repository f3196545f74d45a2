"""Language models that decide outcomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from rlstep.interfaces.rollouts import AskContext
from rlstep.types import Failure, OutcomeScore, Prompt, Rollout


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something to ask a language model, for one answer."""

    question_id: str
    """Unique within a run; it fixes the answer's seed."""
    text: str


class Ask(Protocol):
    """A model that is ready to answer."""

    async def __call__(self, questions: Sequence[Question]) -> list[str | Failure]:
        """Per question, in order, the model's own words (nothing of the question), or a Failure:
        'unparsable_judgment' for an answer that was cut at its limit."""
        ...


class JudgeModel(ABC):
    """The language model behind a judge."""

    def check(self) -> None:
        """Called before any process starts.

        Raises:
            ValueError: something that it needs is not in the environment.
        """
        return

    @abstractmethod
    def open(self, context: AskContext) -> AbstractAsyncContextManager[Ask]:
        """Open what it takes to ask; one that is open serves any number of callers at once."""


class Judge(ABC):
    """Decides outcomes by asking a language model; where no judge does, the verifier decides."""

    model: JudgeModel

    @abstractmethod
    def takes(self, prompt: Prompt) -> bool:
        """Whether it decides over the rollouts of this prompt; the first judge that does, does."""

    def check(self, prompt: Prompt) -> None:
        """Called when the task is loaded, for every prompt that it takes.

        Raises:
            ValueError: the prompt lacks what its judgment is based on; names the field.
        """
        return

    @abstractmethod
    async def judge(self, rollouts: Sequence[Rollout], ask: Ask) -> list[OutcomeScore | Failure]:
        """One outcome per rollout, in order."""
