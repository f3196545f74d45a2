"""Held-out accuracy of the policy, and how well the PRM tells right steps from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlstep.interfaces import RolloutContext, StepOracle
from rlstep.metrics import roc_auc, rollout_metrics
from rlstep.rollouts.independent import Independent
from rlstep.types import Group, Prompt, Rollout, Sampling


async def evaluate_policy(
    prompts: Sequence[Prompt], sampling: Sampling, context: RolloutContext
) -> dict[str, float]:
    """Greedy accuracy on held-out problems ('eval/accuracy') and how the completions look."""
    greedy = replace(sampling, temperature=0.0, top_p=1.0, top_k=0)
    groups = await _collect(prompts, Independent(samples_per_prompt=1, sampling=greedy), context)
    return rollout_metrics(groups, prefix="eval")


@dataclass(frozen=True, kw_only=True)
class StepProbe:
    """Step scores beside what the oracle says, over many rollouts. Entries are steps."""

    right: np.ndarray
    """bool: the prefix through this step has no error."""
    score: np.ndarray
    """float: the PRM's."""
    position: np.ndarray
    """int: index of the step in its rollout."""


def probe_steps(rollouts: Sequence[Rollout], oracle: StepOracle) -> StepProbe:
    """Every step up to and including the first error of its rollout (after it nothing is right)."""
    right, score, position = [], [], []
    for rollout in rollouts:
        scores = rollout.step_scores("prm")
        if scores is None:
            continue
        texts = [rollout.step_text(i) for i in range(len(rollout.steps))]
        error = oracle.first_error(rollout.prompt, texts)
        for i in range(len(texts) if error is None else error + 1):
            right.append(error is None or i < error)
            score.append(float(scores.values[i]))
            position.append(i)
    return StepProbe(right=np.array(right), score=np.array(score), position=np.array(position))


async def evaluate_prm(
    prompts: Sequence[Prompt], sampling: Sampling, oracle: StepOracle, context: RolloutContext
) -> dict[str, float]:
    """ROC AUC of the PRM's step scores against the exact oracle, on problems it never saw.

    Beside it the AUC of the step's position alone (earlier is more often right): what a scorer that
    cannot read would reach.
    """
    groups = await _collect(prompts, Independent(samples_per_prompt=4, sampling=sampling), context)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    probe = probe_steps(await context.scorer.score_steps(rollouts), oracle)
    if probe.right.all() or not probe.right.any():
        return {"prm/probe_steps": float(len(probe.right))}  # one class only: no AUC exists
    return {
        "prm/auc": roc_auc(probe.score, probe.right),
        "prm/auc_position": roc_auc(-probe.position, probe.right),
        "prm/probe_steps": float(len(probe.right)),
        "prm/probe_wrong_steps": float((~probe.right).sum()),
    }


async def _collect(
    prompts: Sequence[Prompt], strategy: Independent, context: RolloutContext
) -> list[Group]:
    groups = [group async for group in strategy.collect(prompts, context)]
    return sorted(groups, key=lambda group: group.prompt.prompt_id)
