"""A learner's rank that computes nonsense, for tests and measurements of aggregation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlstep.aggregation.aggregator import Aggregator, RankGradients


class Fault(ABC):
    """What goes wrong with a rank's gradient."""

    @abstractmethod
    def corrupt(self, gradients: Sequence[Any]) -> None:
        """Overwrite the tensors of one update."""


@dataclass(frozen=True, kw_only=True)
class SignFlip(Fault):
    """The other way."""

    times: float = 1.0
    """And so much longer."""

    def corrupt(self, gradients: Sequence[Any]) -> None:
        for gradient in gradients:
            gradient.mul_(-self.times)


@dataclass(frozen=True, kw_only=True)
class Noise(Fault):
    """Normal numbers, `times` as long as the gradient itself, tensor by tensor."""

    times: float = 1.0

    def corrupt(self, gradients: Sequence[Any]) -> None:
        for gradient in gradients:
            length = gradient.norm() * self.times
            gradient.normal_().mul_(length / gradient.norm())


@dataclass(frozen=True, kw_only=True)
class Stale(Fault):
    """That of its first update, for ever."""

    def corrupt(self, gradients: Sequence[Any]) -> None:
        for gradient, first in zip(gradients, self._first(gradients), strict=True):
            gradient.copy_(first)

    def _first(self, gradients: Sequence[Any]) -> Sequence[Any]:
        if not self._kept:
            self._kept.extend(gradient.clone() for gradient in gradients)
        return self._kept

    @cached_property
    def _kept(self) -> list[Any]:
        return []


@dataclass(frozen=True, kw_only=True)
class Zero(Fault):
    """Nothing at all."""

    def corrupt(self, gradients: Sequence[Any]) -> None:
        for gradient in gradients:
            gradient.zero_()


@dataclass(frozen=True, kw_only=True)
class OneFaulty(Aggregator):
    """Another aggregator, one of whose ranks is wrong in every update."""

    aggregator: Aggregator
    fault: Fault
    rank: int = 0

    @property
    def needs_ranks(self) -> int:
        return max(self.aggregator.needs_ranks, self.rank + 1, 2)

    def aggregate(self, gradients: RankGradients) -> Mapping[str, float]:
        if gradients.rank == self.rank:
            self.fault.corrupt(gradients.own)
        return self.aggregator.aggregate(gradients)
