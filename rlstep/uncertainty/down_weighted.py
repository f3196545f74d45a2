"""Less weight for steps whose scores are uncertain."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

import numpy as np

from rlstep.checks import at_least
from rlstep.types import AdvantageSamples, Floats, Group, LabelSamples, PairSamples, Samples
from rlstep.uncertainty.sigma import step_sigma
from rlstep.uncertainty.wrapper import Wrapper, only, rollout_of


@dataclass(frozen=True, kw_only=True)
class DownWeighted(Wrapper):
    """Another builder's advantages or label weights, each step's times 1 / (1 + k sigma^2).

    The weight of a measurement whose own variance comes on top of a variance of 1/k that all have,
    scaled to 1 for a sure one: what URM's standard deviations (Lou et al. 2024, arXiv:2410.00847)
    are worth in a least-squares fit. Rollouts without a score of this source are not trained.
    """

    k: float = 1.0
    """Per squared unit of the scores; 0 changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("samples.k", self.k, 0.0)
        if self.of.makes is PairSamples:
            raise ValueError(
                f"samples.of {type(self.of).__name__} makes PairSamples, which carry no weight;"
                " CertainPairs or Dropped takes them"
            )

    def samples(self, groups: Seq[Group]) -> Samples:
        sure = only(groups, lambda rollout: step_sigma(rollout, self.source) is not None)
        made = self.of.samples(sure)
        by_id = {r.rollout_id: r for group in sure for r in group.rollouts}

        def weighted(columns: Seq[Floats]) -> tuple[Floats, ...]:
            return tuple(
                (
                    column
                    * self._weights(step_sigma(rollout_of(s, by_id), self.source))[s.step_index]
                ).astype(np.float32)
                for s, column in zip(made.sequences, columns, strict=True)
            )

        if isinstance(made, AdvantageSamples):
            return replace(made, advantages=weighted(made.advantages))
        assert isinstance(made, LabelSamples), f"{type(made).__name__} carry no weight"
        return replace(made, weights=weighted(made.weights))

    def _weights(self, sigma: np.ndarray | None) -> np.ndarray:
        """[K] -> [K + 1]: the last entry, index -1, is for tokens that belong to no step."""
        assert sigma is not None, "a rollout without uncertainty was not left out"
        return np.append(1.0 / (1.0 + self.k * sigma**2), 1.0)
