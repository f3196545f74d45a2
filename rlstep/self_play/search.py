"""Trees of refinements: which are tried next, and which one is found.

A node is an answer that a judge has voted on. The search knows no model: whoever calls it makes the
refinements, and keeps to a budget.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rlstep.checks import at_least, between
from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Node:
    """An answer and what the judge thinks of it."""

    rollout: Rollout
    value: float
    """Share of the votes that find it correct, in [0, 1]."""
    depth: int
    """Refinements that led to it; 0 for the original."""


Expand: TypeAlias = Callable[[Sequence[Node]], Awaitable[list[Node]]]
"""Judged refinements of some nodes, at most `branch` of each: fewer where one failed or the budget
is spent."""


@dataclass(frozen=True, kw_only=True)
class TreeSearch(ABC):
    """How refinements of refinements are looked for."""

    branch: int = 3
    """Refinements of an answer."""
    keep: int = 2
    """The best of them (breadth first: of a depth) that are refined on; of equals the earliest."""
    depth: int = 3
    """Most refinements one after the other."""
    above: float = 0.5
    """A refinement with a higher share of votes is accepted, and ends the search."""

    def __post_init__(self) -> None:
        for name in ("branch", "keep", "depth"):
            at_least(f"search.{name}", getattr(self, name), 1)
        between("search.above", self.above, 0.0, 1.0)
        if self.above == 1.0:
            raise ValueError("search.above is 1.0, above which is nothing; it must be under 1")

    @abstractmethod
    async def find(self, root: Node, expand: Expand) -> Node | None:
        """The first refinement that is accepted, None where the search ends without one."""

    def _best(self, made: Sequence[Node]) -> list[Node]:
        return sorted(made, key=lambda node: -node.value)

    def _accepted(self, best: Sequence[Node]) -> Node | None:
        return best[0] if best and best[0].value > self.above else None


@dataclass(frozen=True, kw_only=True)
class BreadthFirst(TreeSearch):
    """All of a depth before the next: the best of them are refined together."""

    async def find(self, root: Node, expand: Expand) -> Node | None:
        kept = [root]
        for _ in range(self.depth):
            best = self._best(await expand(kept))
            if (found := self._accepted(best)) is not None:
                return found
            kept = best[: self.keep]
            if not kept:
                break
        return None


@dataclass(frozen=True, kw_only=True)
class DepthFirst(TreeSearch):
    """The best refinement's own refinements before those of the second best."""

    async def find(self, root: Node, expand: Expand) -> Node | None:
        if root.depth == self.depth:
            return None
        best = self._best(await expand([root]))
        found = self._accepted(best)
        for node in best[: self.keep]:
            found = found or await self.find(node, expand)
        return found
