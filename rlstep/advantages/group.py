"""Advantages relative to the other rollouts of the same prompt, from outcomes."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from rlstep.interfaces import SampleBuilder
from rlstep.sequences import sequence
from rlstep.types import AdvantageSamples, Floats, Group, Rollout

Std: TypeAlias = Literal["population", "sample", "none"]
"""Divide by n, by n - 1, or do not divide by a standard deviation at all (Dr. GRPO)."""


def normalise(values: Floats, std: Std) -> Floats | None:
    """(values - mean) / std, or None where all values are equal: no signal, and no 0/0."""
    if len(values) < 2 or np.ptp(values) == 0.0:
        return None
    wide = values.astype(np.float64)
    centred = wide - wide.mean()
    if std != "none":
        centred /= wide.std(ddof=0 if std == "population" else 1)
    return centred.astype(np.float32)


def advantage_samples(
    groups: Seq[Group], scored: Seq[Seq[tuple[Rollout, Floats]]]
) -> AdvantageSamples:
    """Sequences and per-token advantages.

    Tokens that a branch inherited are trained in the rollout that sampled them, not again here.

    Args:
        groups: the groups that were looked at.
        scored: for every group its rollouts with one advantage a step, float32 [K]; empty where the
            group has no signal.
    """
    flat = [item for group in scored for item in group]
    sequences = tuple(sequence(rollout, start=rollout.inherited) for rollout, _ in flat)
    advantages = []
    for s, (_, per_step) in zip(sequences, flat, strict=True):
        column = np.zeros(len(s.token_ids), dtype=np.float32)
        column[s.loss_mask] = per_step[s.step_index[s.loss_mask]]
        advantages.append(column)
    with_signal = sum(1 for group in scored if group)
    return AdvantageSamples(
        sequences=sequences,
        advantages=tuple(advantages),
        groups=with_signal,
        groups_without_signal=len(groups) - with_signal,
    )


@dataclass(frozen=True, kw_only=True)
class GroupAdvantages(SampleBuilder):
    """(outcome - mean) / std over a prompt's rollouts, the same for every token of a rollout.

    GRPO with outcome supervision (Shao et al. 2024, arXiv:2402.03300, section 4.1.2). Rollouts
    without an outcome are not in the mean; groups with equal outcomes give nothing.
    """

    makes: ClassVar[type] = AdvantageSamples

    std: Std = "population"

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return advantage_samples(groups, [self._scored(group) for group in groups])

    def _scored(self, group: Group) -> list[tuple[Rollout, Floats]]:
        known = [(r, r.outcome.value) for r in group.rollouts if r.outcome is not None]
        advantages = normalise(np.array([value for _, value in known], dtype=np.float32), self.std)
        if advantages is None:
            return []
        return [
            (rollout, np.full(len(rollout.steps), advantage, dtype=np.float32))
            for (rollout, _), advantage in zip(known, advantages, strict=True)
        ]
