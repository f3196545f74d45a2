"""The values of a rollout's prefixes, from Monte-Carlo continuations."""

from __future__ import annotations

import numpy as np

from rlstep.advantages.arithmetic import Wide
from rlstep.advantages.assemble import complete, outcome_values
from rlstep.measuring.ties import settled
from rlstep.types import Group, Rollout, StepScores


def prefix_values(group: Group, source: str) -> list[tuple[Rollout, Wide]]:
    """V(s_0), ..., V(s_K-1) and the outcome, float64 [K + 1], of every rollout that has them.

    V(s_0), the prompt's, is the mean outcome of the group's independent rollouts; V(s_k) is the
    source's score of step k - 1, the value of the prefix that ends with it. What the source says of
    the last step is not read: after it comes the outcome, and nothing is left to continue. Values
    that are equal but for rounding (1/3 as a mean and as float32) are made equal.
    """
    independent = complete([r for r in group.rollouts if r.parent is None], "outcome")
    if not independent:
        return []
    first = outcome_values(independent).mean()
    return [
        (rollout, settled([first, *inner, *outcome_values([rollout])]))
        for rollout in complete(group.rollouts, "outcome")
        if (inner := _before_the_last(rollout, source)) is not None
    ]


def _before_the_last(rollout: Rollout, source: str) -> Wide | None:
    """[K - 1]: scores of all steps but the last, None where one is missing."""
    scores = rollout.scores.get(source)
    if not isinstance(scores, StepScores):
        return None
    if scores.n is not None and not (scores.n[:-1] > 0).all():
        return None
    return scores.values[:-1].astype(np.float64)
