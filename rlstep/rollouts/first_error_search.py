"""The first wrong step of a rollout, found by halving instead of by labelling every step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np

from rlstep.checks import between
from rlstep.interfaces import Labeller, RolloutContext
from rlstep.rollouts.continuations import Continuations, Tally, with_counts
from rlstep.rollouts.requests import request_seed
from rlstep.rollouts.stopping import BetaStopping
from rlstep.tensors.sequences import shared_prefix
from rlstep.types import Rollout


async def first_low(
    count: int, is_low: Callable[[int], Awaitable[bool | None]], parted: int | None = None
) -> int | None:
    """Index of the first low one of `count` > 0 prefixes, the last of which is known to be low.

    Exact where no high prefix follows a low one; elsewhere it finds a low one that follows a high
    one (or the first of all). Asks for at most ceil(log2(count)) prefixes, one more where it has
    `parted`, and never for the last.

    Args:
        is_low: whether prefix i is low; None where that is not known, which ends the search.
        parted: all prefixes before it are known to be high; it is asked for first.

    Returns:
        The index, or None where the search was ended.
    """
    start, end = parted or 0, count - 1
    asked = parted
    while start < end:
        middle, asked = (start + end) // 2 if asked is None else asked, None
        low = await is_low(middle)
        if low is None:
            return None
        start, end = (start, middle) if low else (middle + 1, end)
    return start


@dataclass(frozen=True, kw_only=True)
class FirstErrorSearch(Labeller):
    """Finds the first wrong step of wrong rollouts by binary search over their prefixes.

    The search of OmegaPRM (Luo et al. 2024, arXiv:2406.06592, 3.2): a prefix is low where too few
    of its continuations are correct, and all prefixes from the first wrong step on are taken to be
    low. At most ceil(log2 K) of K prefixes are continued instead of K - 1. All rollouts are
    searched at the same time; none waits for another's answers.

    Only what was asked for is labelled: a step the search passed over has n = 0, which readers of
    the scores take as no label (`pairs.first_error` as right). The last step's label is the verdict
    (n = 1). A correct rollout is not searched; nor is one without a verdict, which has no label at
    all. Where a prefix got no verdict on any continuation, the search of its rollout ends.

    A completer of its own (`temperature`) finds errors where the policy, as it is sampled, finishes
    nothing: of long chains it may solve most greedily and none by sampling. It is the prover of
    process advantage verifiers (Setlur et al. 2024, arXiv:2410.08146), which need not be the
    policy. What it does not solve from the prompt says nothing of where a rollout went wrong: such
    a problem's rollouts are not searched.

    Where the completer is greedy, the search begins where a rollout leaves the greedy solution of
    its problem: what both begin with is high, for that solution is its continuation. Only a step
    that leaves it without harm costs a search by halving; of steps that can be written in one way,
    one continuation finds the error.
    """

    source: ClassVar[str] = "monte_carlo"
    continues: ClassVar[bool] = True

    stopping: BetaStopping = BetaStopping()
    """When a prefix has enough continuations, and the threshold under which it is low; who reads
    the scores must use the same threshold."""
    temperature: float | None = None
    """Of the continuations, as 0 for a greedy one of each prefix; None draws them as the rollouts
    are drawn."""
    fraction: float = 1.0
    """Share of the wrong rollouts that are searched."""

    def __post_init__(self) -> None:
        between("first_error_search.temperature", self.temperature or 0.0, 0.0, 2.0)
        between("first_error_search.fraction", self.fraction, 0.0, 1.0)

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, with 'monte_carlo' StepScores of counts."""
        chosen = self._choose(rollouts, context)
        async with Continuations(context, self.temperature) as continuations:
            labelled = (self._label(r, r.rollout_id in chosen, continuations) for r in rollouts)
            return await asyncio.gather(*labelled)

    def _choose(self, rollouts: Sequence[Rollout], context: RolloutContext) -> set[str]:
        """A seeded sample of the wrong rollouts."""
        wrong = [r.rollout_id for r in rollouts if (own := Tally.of(r)).n and not own.k]
        rng = np.random.default_rng(request_seed(context.seed, f"{context.scope}/first_error"))
        return {wrong[i] for i in rng.permutation(len(wrong))[: ceil(self.fraction * len(wrong))]}

    async def _label(self, rollout: Rollout, search: bool, continuations: Continuations) -> Rollout:
        found = {len(rollout.steps) - 1: Tally.of(rollout)}

        async def value(steps: int) -> Tally:
            return await continuations.tally(rollout, steps, self.stopping.more)

        async def is_low(step: int) -> bool | None:
            found[step] = tally = await value(step + 1)
            return self.stopping.low(tally.n, tally.k) if tally.n else None

        parted = None
        if search and self.temperature is not None:
            whole = await value(0)
            search = whole.n > 0 and not self.stopping.low(whole.n, whole.k)
            solution = continuations.correct(rollout, 0)
            if search and solution is not None and not self.temperature:
                parted = _shared_steps(rollout, solution) or None
                if parted is not None:
                    found[parted - 1] = whole  # that prefix too is continued by the solution
        if search:
            await first_low(len(rollout.steps), is_low, parted)
        return with_counts(rollout, found)


def _shared_steps(rollout: Rollout, other: Rollout) -> int:
    """How many steps both begin with; of two with different outcomes never all."""
    tokens = shared_prefix(rollout.completion.token_ids, other.completion.token_ids)
    return min(sum(step.end <= tokens for step in rollout.steps), len(rollout.steps) - 1)
