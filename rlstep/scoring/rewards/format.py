"""A reward for the form of a completion, whatever it says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlstep.checks import at_least, named
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.thoughts import ThoughtTags
from rlstep.types import Failure, Rollout, RolloutScore


@dataclass(frozen=True, kw_only=True)
class Format(EachRollout):
    """1 for a completion of the wanted form, 0 for any other: DeepSeek-R1's format reward.

    The form is a regular expression for the whole text (Guo et al. 2025, arXiv:2501.12948, section
    2.2.2, ask for <think> and <answer>), surrounding white space aside; '.' matches line ends too.
    Model text can drive an expression into exponential time, so a match has a deadline; one that
    exceeds it is a Failure('timeout'), no 0: whether the form was kept is not known.
    """

    pattern: str = ""
    """'' asks for one thought in the tags of `thoughts`, then one <answer>."""
    thoughts: ThoughtTags = ThoughtTags()
    """With `opened` the start that stands in the prompt is put before the text, whatever the
    pattern."""
    source: str = "format"
    """The name that its scores have."""
    deadline_s: float = 0.25
    """Longest time for one completion."""

    def __post_init__(self) -> None:
        named("format.source", self.source)
        at_least("format.deadline_s", self.deadline_s, 0.001)
        import regex

        try:
            regex.compile(self._form, regex.DOTALL)
        except regex.error as error:
            raise ValueError(
                f"format.pattern is {self.pattern!r}, no regular expression: {error}"
            ) from error

    @property
    def _form(self) -> str:
        start, end = re.escape(self.thoughts.start), re.escape(self.thoughts.end)
        thought = rf"{start}(?:(?!{start}|{end}).)*{end}"
        return self.pattern or rf"{thought}\s*<answer>(?:(?!</?answer>).)*</answer>"

    def score(self, rollout: Rollout) -> RolloutScore | Failure:
        import regex  # the standard library's re takes no deadline

        text = self.thoughts.whole(rollout.completion.text.strip())
        try:
            found = regex.fullmatch(self._form, text, regex.DOTALL, timeout=self.deadline_s)
        except TimeoutError:
            detail = f"{self.source}: no match within {self.deadline_s} s"
            return Failure(reason="timeout", detail=detail)
        return RolloutScore(value=float(found is not None))
