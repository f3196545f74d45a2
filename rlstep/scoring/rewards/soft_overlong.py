"""A penalty for completions that come near their longest length."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.checks import at_least, between, named
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.types import Rollout, RolloutScore


@dataclass(frozen=True, kw_only=True)
class SoftOverlong(EachRollout):
    """0 up to a length, then falling evenly to -1 at the longest: DAPO's overlong penalty.

    With T tokens, R = 0 where T <= longest - buffer, (longest - buffer - T) / buffer where T <=
    longest, and -1 above it (Yu et al. 2025, arXiv:2503.14476, eq. 13). In [-1, 0]. A completion
    that is cut off has all of its tokens counted, like any other.
    """

    longest: int
    """L_max in tokens, at most the sampling's `max_tokens` for it to matter."""
    buffer: int
    """L_cache in tokens, 1 to `longest`: over how many tokens the penalty grows."""
    source: str = "length"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        at_least("soft_overlong.longest", self.longest, 1)
        between("soft_overlong.buffer", self.buffer, 1, self.longest)
        named("soft_overlong.source", self.source)

    def score(self, rollout: Rollout) -> RolloutScore:
        tokens = rollout.completion.length
        over = tokens - (self.longest - self.buffer)
        value = 0.0 - min(1.0, max(0.0, over / self.buffer))
        return RolloutScore(value=value, detail=f"{tokens} tokens")
