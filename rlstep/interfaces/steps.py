"""How a completion is cut into steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from rlstep.types import Completion, Step


class StepSplitter(ABC):
    """Cuts a completion into steps."""

    reads_logprobs: ClassVar[bool] = False
    """Whether it looks at the sampler's logprobs, which must then be those of temperature 1."""

    of_conversations: ClassVar[bool] = False
    """Whether its steps keep clear of what was observed between the policy's turns."""

    @abstractmethod
    def split(self, completion: Completion) -> tuple[Step, ...]:
        """A partition of the completion's tokens, in order, no step empty.

        The end-of-sequence token belongs to the last step. A completion of no tokens has no steps.
        """

    def split_all(self, completions: Sequence[Completion]) -> list[tuple[Step, ...]]:
        """The steps of every completion of one prompt, in order, each a partition as in `split`.

        One by one, save where a splitter looks at all completions to find where to cut one.
        """
        return [self.split(completion) for completion in completions]
