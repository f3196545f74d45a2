"""What an iteration showed of its prompts, for a curriculum."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rlstep.interfaces import Measurement
from rlstep.types import Group, Rollout, Verdict


def measurement(group: Group, iteration: int, sources: Collection[str]) -> Measurement:
    """The verdicts of a prompt's rollouts, and the mean scores of some sources.

    Branches are left out, as they are of the accuracy. What failed is no score and no verdict.

    Args:
        iteration: from 0.
        sources: whose scores are wanted.
    """
    rollouts = [rollout for rollout in group.rollouts if rollout.parent is None]
    verdicts = [r.outcome.verdict for r in rollouts if r.outcome is not None]
    found = {
        source: [x for r in rollouts if (x := _number(r, source)) is not None]
        for source in sorted(sources)
    }
    return Measurement(
        iteration=iteration,
        prompt_id=group.prompt.prompt_id,
        samples=len(verdicts),
        correct=sum(verdict is Verdict.CORRECT for verdict in verdicts),
        scores={source: float(np.mean(numbers)) for source, numbers in found.items() if numbers},
    )


def _number(rollout: Rollout, source: str) -> float | None:
    """One number for what a source says of a rollout: of steps the mean over those that it scored,
    of tokens over those that were sampled."""
    if (steps := rollout.step_scores(source)) is not None:
        labelled = steps.values if steps.n is None else steps.values[steps.n > 0]
        return float(labelled.mean(dtype=np.float64)) if len(labelled) else None
    if (tokens := rollout.token_scores(source)) is not None:
        sampled = tokens.values[rollout.completion.sampled]
        return float(sampled.mean(dtype=np.float64)) if len(sampled) else None
    return rollout.whole_score(source)
