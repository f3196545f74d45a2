"""The plug point: what is done with the ranks' gradients before they are averaged.

Dimensions: p ranks, d numbers of the whole gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class RankGradients(Protocol):
    """The gradients of all ranks, seen from one of them. Every rank calls its methods alike."""

    @property
    def rank(self) -> int: ...

    @property
    def ranks(self) -> int: ...

    @property
    def own(self) -> Sequence[Any]:
        """This rank's tensors, together d numbers; what is written into them counts."""
        ...

    def gram(self) -> NDArray[np.float64]:
        """[p, p]: the inner product of every two ranks' gradients, the same on every rank. Exact to
        float64; the gradients are exchanged in chunks and not kept."""
        ...

    def scale(self, factor: float) -> None:
        """Multiply this rank's gradient; 0 makes it 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class Aggregator(ABC):
    """What the ranks' gradients become before DeepSpeed takes their mean, at ZeRO stage 0."""

    @property
    def needs_ranks(self) -> int:
        """The smallest number of ranks that it makes sense with. Above 1 it needs stage 0, where
        every rank has its whole gradient."""
        return 1

    @abstractmethod
    def aggregate(self, gradients: RankGradients) -> Mapping[str, float]:
        """Change this rank's gradient, so that the mean over the ranks is the aggregate.

        Returns:
            Metrics of the update, by name.
        """


@dataclass(frozen=True, kw_only=True)
class Weighted(Aggregator):
    """One that is a weighted sum of the ranks' gradients, of weights that their inner products
    give."""

    @abstractmethod
    def weights(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        """[p, p] -> [p]: the aggregate is the sum of weight times gradient. The mean's are 1 / p.
        Every gradient has a finite length, and one at least is not 0."""

    def aggregate(self, gradients: RankGradients) -> Mapping[str, float]:
        gram = gradients.gram()
        if not np.isfinite(gram).all() or not gram.any():
            return {}  # the mean is not finite either, so that the update is skipped; or it is 0
        shares = self.weights(gram) * gradients.ranks
        gradients.scale(float(shares[gradients.rank]))
        return {f"rank_{rank}_share": float(share) for rank, share in enumerate(shares)}
