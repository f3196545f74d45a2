"""Where problems come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rlstep.interfaces.roles import Tokenizer
from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """What a task loaded. The two lists share no prompt_id."""

    train: Sequence[Prompt]
    evaluation: Sequence[Prompt]
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows that were left out, by reason."""
    too_long: Sequence[int] = ()
    """Lengths, in tokens, of the prompts that were left out for theirs."""
    sets: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    """What `evaluation.sets` holds out beside `evaluation`, by name; no task's own business."""

    @property
    def held_out(self) -> list[Prompt]:
        """All problems that are only evaluated."""
        return [*self.evaluation, *(prompt for each in self.sets.values() for prompt in each)]


class Task(ABC):
    """A source of problems with checkable answers."""

    @abstractmethod
    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Read and tokenize every problem.

        Raises:
            ValueError: a row is broken; the message names file, line and field.
        """


@runtime_checkable
class StepOracle(Protocol):
    """A task that knows exactly which steps are right: for tests and studies, not for training."""

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        """Index of the first wrong step, or None where every step is right."""
        ...
