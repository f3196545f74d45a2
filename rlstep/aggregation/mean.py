"""The plain mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlstep.aggregation.aggregator import Aggregator, RankGradients


@dataclass(frozen=True, kw_only=True)
class Mean(Aggregator):
    """The mean of all ranks, which makes them one large batch: DeepSpeed's own all-reduce."""

    def aggregate(self, gradients: RankGradients) -> Mapping[str, float]:
        return {}
