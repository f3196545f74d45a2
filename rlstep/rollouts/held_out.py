"""Completions of held-out problems, for evaluation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from rlstep.interfaces import RolloutContext, RolloutStrategy
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.requests import regroup
from rlstep.types import Group, Prompt, Rollout, Sampling

PROBE_SAMPLES = 4
"""Completions of each problem of the PRM's probe."""
TOGETHER = 512
"""Rollouts that the step models score in one call, at least, while there are so many."""


async def answers(
    prompts: Sequence[Prompt], strategy: RolloutStrategy, context: RolloutContext
) -> list[Group]:
    """The strategy's verified completions, by prompt_id.

    Raises:
        RuntimeError: it yielded a group too many or too few.
    """
    return await _collect(prompts, strategy, context)


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


async def sample_many(
    prompts: Sequence[Prompt], samples: int, sampling: Sampling, context: RolloutContext
) -> AsyncGenerator[list[Group], None]:
    """So many verified completions of each problem, with the step models' scores; groups come as
    they are complete, some at a time. All problems are asked for at once."""
    strategy, waiting = _each(samples, sampling, context), list[Group]()
    async for group in strategy.collect(prompts, context):
        waiting.append(group)
        if sum(len(each.rollouts) for each in waiting) >= TOGETHER:
            yield await _scored(waiting, context)
            waiting = []
    if waiting:
        yield await _scored(waiting, context)


async def _scored(groups: Sequence[Group], context: RolloutContext) -> list[Group]:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return regroup(groups, await context.scorer.score_steps(rollouts))


def _each(samples: int, sampling: Sampling, context: RolloutContext) -> RolloutStrategy:
    if context.conversing is not None:
        return context.conversing.alone(samples, sampling)
    return Independent(samples_per_prompt=samples, sampling=sampling)


async def _collect(
    prompts: Sequence[Prompt], strategy: RolloutStrategy, context: RolloutContext
) -> list[Group]:
    groups = [group async for group in strategy.collect(prompts, context)]
    asked, came = [p.prompt_id for p in prompts], [g.prompt.prompt_id for g in groups]
    if sorted(asked) != sorted(came):  # accuracy would be of other problems, and nobody knew
        raise RuntimeError(
            f"rollouts {type(strategy).__name__} yielded {len(came)} groups of {len(asked)}"
            f" held-out prompts, and none of {len({*asked} - {*came})}; it owes one of each, which"
            " may be without rollouts and says why in its failures"
        )
    return sorted(groups, key=lambda group: group.prompt.prompt_id)
