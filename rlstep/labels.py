"""From rollouts to positions with a target: step labels for a PRM, correct solutions for SFT."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from rlstep.interfaces import SampleBuilder
from rlstep.sequences import is_correct, sequence
from rlstep.types import Floats, Group, LabelSamples, Rollout, Sequence, StepScores


@dataclass(frozen=True, kw_only=True)
class CorrectOnly(SampleBuilder):
    """Every correct rollout, whole, each token with weight 1: fine-tuning on own correct samples.

    The baseline that preference methods have to beat (rejection fine-tuning, Yuan et al. 2023,
    arXiv:2308.01825).
    """

    makes: ClassVar[type] = LabelSamples

    def samples(self, groups: Seq[Group]) -> LabelSamples:
        correct = [rollout for group in groups for rollout in group.rollouts if is_correct(rollout)]
        sequences = tuple(sequence(rollout) for rollout in correct)
        ones = tuple(s.loss_mask.astype(np.float32) for s in sequences)
        return LabelSamples(sequences=sequences, targets=ones, weights=ones)


def step_labels(rollouts: Seq[Rollout]) -> LabelSamples:
    """Soft PRM labels from Monte-Carlo counts (Math-Shepherd, arXiv:2312.08935, the soft estimate).

    A step's last token carries the target k/n with weight n; steps with n = 0 are masked, and
    rollouts without any labelled step are left out.
    """
    labelled = [
        (rollout, scores)
        for rollout in rollouts
        if (scores := rollout.step_scores("monte_carlo")) is not None
        and scores.n is not None
        and np.any(scores.n > 0)
    ]
    columns = [_label_columns(rollout, scores) for rollout, scores in labelled]
    return LabelSamples(
        sequences=tuple(column[0] for column in columns),
        targets=tuple(column[1] for column in columns),
        weights=tuple(column[2] for column in columns),
    )


def _label_columns(rollout: Rollout, scores: StepScores) -> tuple[Sequence, Floats, Floats]:
    assert scores.n is not None and scores.k is not None, f"{rollout.rollout_id}: no raw counts"
    whole = sequence(rollout)
    last = np.array([step.end - 1 for step in rollout.steps]) + len(rollout.prompt.token_ids)
    at, n = last[scores.n > 0], scores.n[scores.n > 0]
    targets, weights = np.zeros((2, len(whole.token_ids)), dtype=np.float32)
    targets[at] = scores.k[scores.n > 0] / n
    weights[at] = n
    return replace(whole, loss_mask=weights > 0), targets, weights
