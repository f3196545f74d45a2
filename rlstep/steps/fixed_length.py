"""Steps of a fixed number of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.checks import at_least
from rlstep.interfaces import StepSplitter
from rlstep.steps.partition import partition
from rlstep.types import Completion, Step


@dataclass(frozen=True, kw_only=True)
class FixedLengthSplitter(StepSplitter):
    """A step is so many tokens, whatever they say; the last one is what is left.

    One token a step turns step-level methods into their token-level forms, and steps that know
    nothing of the text are the control for those that do.
    """

    tokens: int = 64
    """Of each step but the last."""

    def __post_init__(self) -> None:
        at_least("splitter.tokens", self.tokens, 1)

    def split(self, completion: Completion) -> tuple[Step, ...]:
        length = len(completion.token_ids)
        return partition(range(0, length, self.tokens), length)
