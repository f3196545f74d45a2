"""A tree of prefixes for every prompt, grown where a wrong rollout promises most (OmegaPRM)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import ClassVar

from rlstep.checks import at_least, between, positive
from rlstep.interfaces import Conversing, RolloutContext, RolloutStrategy
from rlstep.rollouts.continuations import Continuations, Tally, with_visits
from rlstep.rollouts.first_error_search import first_low
from rlstep.rollouts.independent import Independent
from rlstep.types import Group, Prompt, Rollout, Sampling


@dataclass(frozen=True, kw_only=True)
class TreePolicy:
    """Which wrong rollout of which prefix is looked at next (arXiv:2406.06592, 3.3)."""

    alpha: float = 0.5
    """In (0, 1]: how much a prefix with a low success rate is put off."""
    beta: float = 0.9
    """In (0, 1]: how much a long continuation is put off."""
    length: int = 500
    """Tokens of continuation that cost one factor of beta."""
    c_puct: float = 0.125
    """Weight of exploration."""

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            positive(f"tree.{name}", getattr(self, name))
            between(f"tree.{name}", getattr(self, name), 0.0, 1.0)
        at_least("tree.length", self.length, 1)
        at_least("tree.c_puct", self.c_puct, 0.0)

    def exploitation(self, rate: float, tokens: int) -> float:
        """Q = alpha^(1 - rate) * beta^(tokens / length): a short wrong continuation of a prefix
        that mostly succeeds holds an error that is easy to point at."""
        return self.alpha ** (1.0 - rate) * self.beta ** (tokens / self.length)

    def exploration(self, visits: int, total: int) -> float:
        """U = c_puct * sqrt(total) / (1 + visits); total is the visits of all prefixes."""
        return self.c_puct * sqrt(total) / (1 + visits)


@dataclass
class _Prefix:
    """A node: a prefix, and how its continuations fared."""

    visits: list[Tally]
    """What the continuations of each visit said."""
    origin: tuple[Rollout, int] | None = None
    """The rollout that it is counted at, and how many of its steps it holds; the root has none."""
    chosen: int = 0
    """How often a wrong continuation of it was looked at."""

    @property
    def tally(self) -> Tally:
        return sum(self.visits, Tally())

    @property
    def rate(self) -> float:
        tally = self.tally
        return tally.k / tally.n if tally.n else 0.0


@dataclass
class _Tree:
    """What one prompt's search has found."""

    spent: int = 0
    """Continuations asked for."""
    prefixes: dict[bytes, _Prefix] = field(default_factory=dict)
    """By token ids."""
    pool: list[tuple[_Prefix, Rollout]] = field(default_factory=list)
    """Prefixes that sometimes succeed, each with a wrong continuation that was not looked at."""
    labels: dict[str, dict[int, list[Tally]]] = field(default_factory=dict)
    """By rollout_id and step; each prefix stands at one rollout only."""
    searched: dict[str, Rollout] = field(default_factory=dict)

    def add(self, prefix: _Prefix, continuations: Sequence[Rollout]) -> None:
        """Wrong continuations are looked at where the prefix is neither hopeless nor perfect."""
        tally = prefix.tally
        if 0 < tally.k < tally.n:
            tallies = ((rollout, Tally.of(rollout)) for rollout in continuations)
            self.pool += [(prefix, r) for r, tally in tallies if tally.n and not tally.k]

    def take(self, policy: TreePolicy) -> tuple[_Prefix, Rollout]:
        """The pool's best wrong rollout by Q + U, the oldest of equals, and the prefix that it
        continues; it leaves the pool."""
        total = sum(prefix.chosen for prefix in self.prefixes.values())

        def value(index: int) -> float:
            prefix, rollout = self.pool[index]
            tokens = len(rollout.completion.token_ids) - rollout.inherited
            return policy.exploitation(prefix.rate, tokens) + policy.exploration(
                prefix.chosen, total
            )

        prefix, rollout = self.pool.pop(max(range(len(self.pool)), key=value))
        prefix.chosen += 1
        return prefix, rollout


@dataclass(frozen=True, kw_only=True)
class OmegaPrm(RolloutStrategy):
    """Samples, and labels prefixes by a tree search over each prompt's wrong rollouts.

    OmegaPRM (Luo et al. 2024, arXiv:2406.06592, algorithm 1). The root is the prompt with its
    samples. A wrong rollout of a prefix that sometimes succeeds is chosen by Q + U, and the first
    prefix along it from which no continuation succeeds is found by binary search. Prefixes that
    the search passes become nodes, and their own wrong continuations may be chosen later.

    A group has the prompt's samples, then every continuation that was searched as a branch of the
    rollout it continues, with 'monte_carlo' counts of the prefixes that were continued (n = 0
    elsewhere; a prefix is counted at one rollout only) and the verdict for the last step. It is a
    strategy and not a labeller, because most of what it labels are rollouts that it makes itself.
    """

    continues: ClassVar[bool] = True

    base: RolloutStrategy = Independent()
    """How the prompts' own samples are drawn."""
    tree: TreePolicy = TreePolicy()
    """Which prefix is looked at next."""
    continuations: int = 8
    """Of each prefix that is looked at."""
    budget: int = 64
    """Most continuations of one prompt."""
    visits: int = 1
    """How often a prefix may be continued, each time `continuations` times: when it is found, and
    again when the search passes it or looks at one of its wrong continuations. The labels have the
    counts of every visit (see `EntropyRegularised.gamma`). Algorithm 1 has one."""

    def __post_init__(self) -> None:
        at_least("rollouts.continuations", self.continuations, 1)
        at_least("rollouts.budget", self.budget, self.continuations)
        at_least("rollouts.visits", self.visits, 1)

    @property
    def sampling(self) -> Sampling:  # type: ignore[override]  # the base strategy's field
        return self.base.sampling

    @property
    def conversing(self) -> Conversing | None:
        return self.base.conversing

    @property
    def sources(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"monte_carlo"}) | self.base.sources

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        """Trees grow at the same time, each from when its prompt's samples are there."""
        async with Continuations(context) as continuations:
            growing: list[asyncio.Task[Group]] = []
            try:
                async for group in self.base.collect(prompts, context):
                    growing.append(asyncio.create_task(self._grow(group, continuations)))
                for grown in asyncio.as_completed(growing):
                    yield await grown
            finally:
                for task in growing:
                    task.cancel()

    async def _grow(self, group: Group, continuations: Continuations) -> Group:
        tree = _Tree()
        root = _Prefix([sum(map(Tally.of, group.rollouts), Tally())])
        tree.prefixes[group.prompt.token_ids.tobytes()] = root
        tree.add(root, group.rollouts)
        while tree.pool and tree.spent + self.continuations <= self.budget:
            prefix, rollout = tree.take(self.tree)
            await self._visit(prefix, tree, continuations)
            await self._search(rollout, tree, continuations)
        samples = {rollout.rollout_id for rollout in group.rollouts}
        branches = [r for name, r in tree.searched.items() if name not in samples]
        return replace(
            group, rollouts=tuple(_labelled(r, tree) for r in (*group.rollouts, *branches))
        )

    async def _search(self, rollout: Rollout, tree: _Tree, continuations: Continuations) -> None:
        """Binary search for the first hopeless prefix after what the rollout inherited."""
        tree.searched[rollout.rollout_id] = rollout
        labels = tree.labels.setdefault(rollout.rollout_id, {})
        first = sum(step.end <= rollout.inherited for step in rollout.steps)

        async def is_low(index: int) -> bool | None:
            steps = first + index + 1
            key = rollout.prefix_ids(steps).tobytes()
            prefix = tree.prefixes.get(key) or _Prefix([], origin=(rollout, steps))
            await self._visit(prefix, tree, continuations)
            if prefix.visits and key not in tree.prefixes:
                tree.prefixes[key] = prefix
                labels[steps - 1] = prefix.visits
            tally = prefix.tally
            return tally.k == 0 if tally.n else None

        await first_low(len(rollout.steps) - first, is_low)

    async def _visit(self, prefix: _Prefix, tree: _Tree, continuations: Continuations) -> None:
        """Continue a prefix once more, where its visits and the budget allow it."""
        within = tree.spent + self.continuations <= self.budget
        if prefix.origin is None or len(prefix.visits) >= self.visits or not within:
            return
        tree.spent += self.continuations
        drawn = len(prefix.visits) * self.continuations
        made = await continuations.draw(*prefix.origin, drawn, self.continuations)
        prefix.visits.append(sum(map(Tally.of, made), Tally()))
        tree.add(prefix, made)


def _labelled(rollout: Rollout, tree: _Tree) -> Rollout:
    last = {len(rollout.steps) - 1: [Tally.of(rollout)]}
    return with_visits(rollout, {**tree.labels.get(rollout.rollout_id, {}), **last})
