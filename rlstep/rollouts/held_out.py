"""Completions of held-out problems, for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlstep.interfaces import RolloutContext, RolloutStrategy
from rlstep.rollouts.independent import Independent
from rlstep.types import Group, Prompt, Rollout, Sampling

PROBE_SAMPLES = 4
"""Completions of each problem of the PRM's probe."""


async def sample_greedily(
    prompts: Sequence[Prompt], sampling: Sampling, context: RolloutContext
) -> list[Group]:
    """One verified completion a problem, at temperature 0 of the whole support, by prompt_id."""
    greedy = replace(sampling, temperature=0.0, top_p=1.0, top_k=0)
    return await _collect(prompts, _each(1, greedy, context), context)


async def sample_probe(
    prompts: Sequence[Prompt], sampling: Sampling, context: RolloutContext
) -> list[Rollout]:
    """Verified completions of held-out problems with the PRM's first scores of them."""
    groups = await _collect(prompts, _each(PROBE_SAMPLES, sampling, context), context)
    return await context.scorer.score_steps([r for group in groups for r in group.rollouts])


def _each(samples: int, sampling: Sampling, context: RolloutContext) -> RolloutStrategy:
    if context.conversing is not None:
        return context.conversing.alone(samples, sampling)
    return Independent(samples_per_prompt=samples, sampling=sampling)


async def _collect(
    prompts: Sequence[Prompt], strategy: RolloutStrategy, context: RolloutContext
) -> list[Group]:
    groups = [group async for group in strategy.collect(prompts, context)]
    return sorted(groups, key=lambda group: group.prompt.prompt_id)
