"""Steps that end where a regular expression matches; the other splitters are cases of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from rlstep.interfaces import StepSplitter
from rlstep.steps.partition import partition
from rlstep.thoughts import ThoughtTags
from rlstep.types import Completion, Step


@dataclass(frozen=True, kw_only=True)
class PatternSplitter(StepSplitter):
    """A step ends where a match of `pattern` ends, so the separator belongs to the step before it.

    A pattern that only looks ahead, `(?=...)`, matches nothing, and what it looks at begins the new
    step. On tokens:

    - a token that straddles a boundary goes wholly to the earlier step: `.\\n\\n` may be one;
    - a piece of white space or of thought tags alone joins the step before it, at the very start
      the one after it;
    - end-of-sequence and other tokens without text at the end belong to the last step.
    """

    pattern: str
    """Python regular expression, searched in the completion's text."""
    thoughts: ThoughtTags = ThoughtTags()
    """Tags that are no step of their own."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(
                f"splitter.pattern is {self.pattern!r}, no regular expression: {error}"
            ) from error

    def split(self, completion: Completion) -> tuple[Step, ...]:
        tokens, text = len(completion.token_ids), completion.text
        if not tokens:
            return ()
        starts = np.concatenate([[0], completion.ends])  # [T + 1]: token t writes from starts[t] on
        boundaries = [match.end() for match in re.finditer(self.pattern, text)]
        bounds, text = [tokens], self.thoughts.blanked(text)
        for cut in np.unique(np.searchsorted(starts, boundaries))[::-1]:
            if text[starts[cut] : starts[bounds[-1]]].strip():
                bounds.append(int(cut))
        if len(bounds) > 1 and not text[: starts[bounds[-1]]].strip():
            bounds.pop()
        return partition(bounds, tokens)
