"""When enough continuations of a prefix are drawn to say on which side of a threshold it lies."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

from rlstep.checks import at_least, between, positive


def beta_at_least(threshold: float, n: int, k: int) -> float:
    """P(p >= threshold) under Beta(1 + k, 1 + n - k): k of n draws succeeded, uniform prior.

    Both counts are integers, so this is a binomial tail: p is the (k+1)-th smallest of n + 1
    uniform numbers, and it is at least t where at most k of them are under t.
    """
    t = threshold
    return sum(comb(n + 1, j) * t**j * (1.0 - t) ** (n + 1 - j) for j in range(k + 1))


@dataclass(frozen=True, kw_only=True)
class BetaStopping:
    """Draw in batches until the posterior of the success rate lies on one side of a threshold.

    Stops when (a) the side on which k/n lies has a posterior probability above `confidence`, (b) no
    draw that is left could change the side, or (c) `limit` draws are asked for. With `batch` equal
    to `limit` everything is drawn at once: a fixed number of continuations.
    """

    threshold: float = 0.5
    """Success rate under which a prefix is low; in (0, 1]."""
    confidence: float = 0.9
    """In [0.5, 1]; at 1 it decides as `limit` draws would, always."""
    batch: int = 2
    """Draws asked for at a time."""
    limit: int = 8
    """Most draws of one prefix."""

    def __post_init__(self) -> None:
        positive("stopping.threshold", self.threshold)
        between("stopping.threshold", self.threshold, 0.0, 1.0)
        between("stopping.confidence", self.confidence, 0.5, 1.0)
        at_least("stopping.limit", self.limit, 1)
        between("stopping.batch", self.batch, 1, self.limit)

    def low(self, n: int, k: int) -> bool:
        """The decision as it stands, which is also how `pairs.first_error` reads k/n; n > 0."""
        return k / n < self.threshold

    def more(self, n: int, k: int, asked: int) -> int:
        """How many to draw next, 0 for enough.

        Args:
            n: draws with a verdict.
            k: how many of them were correct.
            asked: draws asked for, those without a verdict included.
        """
        left = self.limit - asked
        if left <= 0 or (n > 0 and self._settled(n, k, left)):
            return 0
        return min(self.batch, left)

    def _settled(self, n: int, k: int, left: int) -> bool:
        if not self.low(n + left, k) or self.low(n + left, k + left):
            return True
        above = beta_at_least(self.threshold, n, k)
        return (1.0 - above if self.low(n, k) else above) > self.confidence
