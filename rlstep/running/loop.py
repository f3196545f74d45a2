"""The training loop. One for every algorithm, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from rlstep.config import Config
from rlstep.interfaces import Roles, RolloutContext
from rlstep.measuring.metrics import Record, rollout_metrics
from rlstep.measuring.monitors import watch, watch_learner
from rlstep.plugins import check_failed_scores
from rlstep.rollouts.requests import regroup
from rlstep.running.selection import Selection
from rlstep.running.stream import stream
from rlstep.types import Failure, Group, Rollout

logger = logging.getLogger(__name__)

Report = Callable[[Record, Sequence[Group]], None]


async def train(
    config: Config, roles: Roles, selection: Selection, report: Report, first: int
) -> AsyncGenerator[int, None]:
    """Yield the number of iterations done, after each: trained, synced and reported.

    The caller evaluates, saves and stops between two iterations; nothing runs on the roles then
    but, at a lag, the collection of the next batches.

    Args:
        selection: what to sample from; knows what was measured before, and at a lag what is
            sampled and not trained on yet.
        report: takes the iteration's metrics (its number, from 1, under 'iteration') and groups.
        first: iterations that were done before (0 for a new run).
    """
    size, lag = config.prompts_per_iteration, config.max_policy_lag
    backlog = selection.backlog
    backlog.done = first

    def collect(iteration: int) -> AsyncIterator[Group]:
        return selection.collect(iteration, roles.context(iteration))

    started, idle = time.monotonic(), 0
    wanted = range(first, config.iterations)
    async with aclosing(stream(collect, wanted, size, lag, backlog)) as batches:
        async for iteration, collected in batches:
            metrics = {"time/collect": time.monotonic() - started}
            groups = [drop_stale(g, roles.version - backlog.lag_of(g, lag)) for g in collected]
            begun = time.monotonic()
            rollouts = await score(groups, roles, roles.context(iteration))
            metrics["time/score"] = time.monotonic() - begun
            scored = regroup(groups, rollouts)
            check_failed_scores([*scored, *selection.replaced], config.max_failed_scores)
            samples = config.samples.samples(scored)
            metrics |= rollout_metrics(scored, roles.version) | watch(scored, config.monitors)
            metrics |= selection.measure(iteration, scored)
            begun = time.monotonic()
            metrics |= await roles.train(samples, rollouts, iteration)
            selection.trained()
            metrics |= watch_learner(metrics, config.monitors.thresholds)
            metrics["time/train"] = time.monotonic() - begun
            idle = _idle(idle, metrics)
            metrics["time/iteration"] = time.monotonic() - started
            metrics["rollout/sampled_total"] = roles.sampled
            report({"iteration": iteration + 1, **metrics}, scored)
            yield iteration + 1
            started = time.monotonic()


def _idle(idle: int, metrics: Record) -> int:
    """Iterations in a row without an update of the policy; every third one warns."""
    if metrics.get("train/updates", 1.0):
        return 0
    if (idle + 1) % 3 == 0:
        logger.warning(
            "no update for %d iterations: %.0f %% of the last one's groups had no signal (all"
            " rollouts scored alike), and %d scores or generations failed; draw more samples of a"
            " prompt, other problems, or at another temperature",
            *(idle + 1, 100 * metrics.get("rollout/without_signal", 0.0)),
            metrics.get("rollout/failures", 0),
        )
    return idle + 1


async def score(groups: Sequence[Group], roles: Roles, context: RolloutContext) -> list[Rollout]:
    """All rollouts, in order, with the scores of every step model and every labeller."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scored, labelled = await asyncio.gather(
        context.scorer.score_steps(rollouts), roles.label(rollouts, context)
    )
    return [s.with_scores(**r.scores) for s, r in zip(labelled, scored, strict=True)]


def drop_stale(group: Group, oldest: int) -> Group:
    """Without the rollouts that hold a token older than version `oldest`; each is a Failure."""
    fresh = tuple(r for r in group.rollouts if r.oldest_version >= oldest)
    stale = (Failure(reason="stale"),) * (len(group.rollouts) - len(fresh))
    return replace(group, rollouts=fresh, failures=group.failures + stale)
