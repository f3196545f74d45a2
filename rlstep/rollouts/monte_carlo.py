"""Monte-Carlo step values: how often does the policy reach a correct answer from here?"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import Labeller, RolloutContext
from rlstep.rollouts.requests import Branch, branch, branch_rollouts, request_seed
from rlstep.types import Failure, Rollout, StepScores, Verdict

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MonteCarlo(Labeller):
    """Labels steps by continuing from them (Math-Shepherd, Wang et al. 2023, arXiv:2312.08935).

    For a step, `n` continuations of the prefix that ends with it, `k` of them correct. A truncated
    continuation counts as not correct, and is counted. The counts are stored, never only k/n.

    A rollout is itself one continuation, drawn from the policy, of every prefix of its own; with
    `own_outcome` it is counted as such (n = 1 for every step, at no cost; a branch for the steps
    from its last inherited one on). The last step has no other label: what follows it is the
    verdict.
    """

    source: ClassVar[str] = "monte_carlo"

    continuations: int = 4
    """Continuations of each labelled step."""
    fraction: float = 1.0
    """Share of a batch's steps (last ones left out) that is labelled by continuations."""
    own_outcome: bool = True

    def __post_init__(self) -> None:
        at_least("monte_carlo.continuations", self.continuations, 1)
        if not 0.0 <= self.fraction <= 1.0:
            raise ValueError(f"monte_carlo.fraction is {self.fraction}; it lies in [0, 1]")

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, with 'monte_carlo' StepScores (n = 0 where not labelled)."""
        counts = {r.rollout_id: np.zeros((3, len(r.steps)), dtype=np.int32) for r in rollouts}
        if self.own_outcome:
            for rollout in rollouts:
                _count(counts[rollout.rollout_id], _own_steps(rollout), rollout)
        chosen = self._choose(rollouts, context)
        shared = _share_prefixes(chosen, self.continuations, context)
        branches = {origin.request.request_id: origin for origin, _ in shared}
        targets = {origin.request.request_id: steps for origin, steps in shared}
        failures: Counter[str] = Counter()
        async for request, answer in context.generator.generate(
            [origin.request for origin in branches.values()]
        ):
            if isinstance(answer, Failure):
                failures[answer.reason] += 1  # the steps keep the counts they have
                continue
            made = branch_rollouts(branches[request.request_id], answer, context)
            for continuation in await context.scorer.verify(made):
                for rollout_id, step in targets[request.request_id]:
                    _count(counts[rollout_id], step, continuation)
        if failures:
            logger.warning("prefixes not continued, of %d: %s", len(shared), dict(failures))
        return [_with_counts(rollout, counts[rollout.rollout_id]) for rollout in rollouts]

    def _choose(
        self, rollouts: Sequence[Rollout], context: RolloutContext
    ) -> list[tuple[Rollout, int]]:
        """A seeded sample of (rollout, step), in the order of the rollouts."""
        steps = [(r, i) for r in rollouts if r.outcome for i in range(len(r.steps) - 1)]
        rng = np.random.default_rng(request_seed(context.seed, f"{context.scope}/monte_carlo"))
        picked = rng.permutation(len(steps))[: ceil(self.fraction * len(steps))]
        return [steps[i] for i in sorted(picked)]


def _share_prefixes(
    chosen: Sequence[tuple[Rollout, int]], n: int, context: RolloutContext
) -> list[tuple[Branch, list[tuple[str, int]]]]:
    """One branch for all steps of the batch that end the same prefix, with those steps."""
    found: dict[bytes, tuple[Branch, list[tuple[str, int]]]] = {}
    for rollout, step in chosen:
        key = rollout.prefix_ids(step + 1).tobytes()
        if key not in found:
            origin = branch(rollout, step + 1, n, "mc", rollout.sampling, context)
            found[key] = (origin, [])
        found[key][1].append((rollout.rollout_id, step))
    return list(found.values())


def _own_steps(rollout: Rollout) -> slice:
    """The steps whose prefix the rollout continues by its own sampling.

    A branch drew nothing before its last inherited step: what came there is its parent's, and was
    chosen for how the parent went on.
    """
    return slice(sum(step.end < rollout.inherited for step in rollout.steps), None)


def _count(counts: np.ndarray, steps: int | slice, continuation: Rollout) -> None:
    """Add one continuation to rows n, k, truncated; one without a verdict says nothing."""
    if continuation.outcome is None:
        return
    correct = continuation.outcome.verdict is Verdict.CORRECT
    truncated = continuation.completion.truncated
    counts[:, steps] += np.array([1, correct and not truncated, truncated]).reshape(
        (3, 1) if isinstance(steps, slice) else 3
    )


def _with_counts(rollout: Rollout, counts: np.ndarray) -> Rollout:
    n, k, truncated = counts
    scores = StepScores(
        values=(k / np.maximum(n, 1)).astype(np.float32),
        version=rollout.oldest_version,
        n=n,
        k=k,
        truncated=truncated,
    )
    return rollout.with_scores(monte_carlo=scores)
