"""A turn is a step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from rlstep.interfaces import StepSplitter
from rlstep.types import Completion, Step


@dataclass(frozen=True, kw_only=True)
class Turns(StepSplitter):
    """Cuts where something was observed, and nowhere else: what was sampled of a turn is a step.

    The splitter of conversations. Of a completion in which nothing was observed the whole is one
    step.
    """

    of_conversations: ClassVar[bool] = True

    def split(self, completion: Completion) -> tuple[Step, ...]:
        bounds = [0, *(x for o in completion.observed for x in (o.start, o.end))]
        bounds.append(len(completion.token_ids))
        return tuple(
            Step(start=start, end=end) for start, end in list(pairwise(bounds))[::2] if start < end
        )
