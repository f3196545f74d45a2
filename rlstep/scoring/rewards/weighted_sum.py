"""Several scores of a rollout as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from rlstep.checks import named
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.types import Failure, Rollout, RolloutScore

ROUNDING = 1e-14
"""Of a sum, relative to its largest part: with room for what is left of 0.1 + 0.2 - 0.3."""


@dataclass(frozen=True, kw_only=True)
class WeightedSum(EachRollout):
    """The weighted sum of what several sources gave a rollout, under a name of its own.

    For algorithms that read one number a rollout: set their `source` to this one's. Where any part
    failed the sum is a Failure('part_failed') that names the part, never a sum of the rest: the
    rollout is in no baseline. Parts are the outcome and scores of labellers that stand before it.
    """

    weights: Mapping[str, float]
    """By source, for instance {'outcome': 1.0, 'length': 0.5}; negative ones subtract."""
    source: str = "reward"
    """The name that its scores have, for an estimator to read."""

    def __post_init__(self) -> None:
        named("weighted_sum.source", self.source)
        if not self.weights:
            raise ValueError("weighted_sum.weights is empty; name a source, for instance 'outcome'")
        for name, weight in self.weights.items():
            if not isinstance(weight, int | float) or isinstance(weight, bool):
                raise TypeError(
                    f"weighted_sum.weights[{name!r}] is {weight!r}; it must be a number"
                )
            if not isfinite(weight):
                raise ValueError(f"weighted_sum.weights[{name!r}] is {weight}; it must be finite")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(self.weights)

    def score(self, rollout: Rollout) -> RolloutScore | Failure:
        """The sum, or a Failure where a part failed or the sum is no finite number.

        Raises:
            TypeError: a part scores steps or tokens.
        """
        parts, terms = [], []
        for source, weight in self.weights.items():
            part = rollout.scores[source]
            if isinstance(part, Failure):
                return Failure(reason="part_failed", detail=f"{source}: {part.reason}")
            value = rollout.whole_score(source)
            if value is None:
                raise TypeError(
                    f"{rollout.rollout_id}: the scores of {source!r} are {type(part).__name__};"
                    f" {type(self).__name__} adds scores of whole rollouts"
                )
            parts.append(weight * value)
            terms.append(f"{weight:g} * {value:.4g}")
        total = sum(parts)
        if not isfinite(total):
            return Failure(reason="not_finite", detail=f"{self.source}: {' + '.join(terms)}")
        if abs(total) <= ROUNDING * max(map(abs, parts)):  # parts that cancel leave their rounding
            total = 0.0
        return RolloutScore(value=total, detail=" + ".join(terms))
