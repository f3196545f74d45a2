"""Advantages of the steps that have a label, from the labels alone."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.advantages.arithmetic import Wide
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    WithoutSignal,
    assemble,
    per_token,
)
from rlstep.interfaces import LabelView
from rlstep.measuring.ties import cleared, settled
from rlstep.tensors.labels import LocatedError, step_labels
from rlstep.tensors.sequences import last_tokens
from rlstep.types import AdvantageSamples, Group, Rollout


@dataclass(frozen=True, kw_only=True)
class StepLabelAdvantages(AdvantageBuilder):
    """A step's advantage is its label less the mean label of the prompt's steps, 0 without a label.

    For labels that stand on some steps only, as a search for the first error leaves them
    (OmegaPRM, Luo et al. 2024, arXiv:2406.06592): the steps before the error are paid, the error
    is charged, and what follows it, of which nothing is known, is neither. Every step is paid for
    itself alone, so the variance does not grow with the chain. A step's labels weigh in the mean
    as the view says. A rollout without any label is in the samples with advantages of 0.
    """

    view: LabelView = LocatedError()
    """What of the Monte-Carlo counts is the label."""
    without_signal: WithoutSignal = "kept"
    """Groups whose labels are all equal; see `GroupAdvantages`."""

    sources: ClassVar[frozenset[str]] = frozenset({"monte_carlo"})

    def samples(self, groups: Seq[Group]) -> AdvantageSamples:
        return assemble(self.advantages(groups), self.without_signal)

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        return [self._credit(group) for group in groups]

    def _credit(self, group: Group) -> Credit:
        known = [r for r in group.rollouts if r.own.any() and r.step_scores("monte_carlo")]
        labels = self._labels(known)
        targets = settled(np.concatenate([t for t, _ in labels])) if labels else np.zeros(0)
        weights = np.concatenate([w for _, w in labels]) if labels else np.zeros(0)
        if not weights.any():
            return [(r, np.zeros(len(r.completion.token_ids))) for r in known]
        mean = float(targets @ weights / weights.sum())
        paid = np.where(weights > 0.0, cleared(targets - mean, targets), 0.0)
        cuts = np.cumsum([len(t) for t, _ in labels])[:-1]
        columns = np.split(paid, cuts)
        return [(r, per_token(r, column)) for r, column in zip(known, columns, strict=True)]

    def _labels(self, rollouts: Seq[Rollout]) -> list[tuple[Wide, Wide]]:
        """Targets and weights of every rollout's steps, [K] each; 0 where there is no label."""
        found = step_labels(rollouts, self.view)
        places = {s.sequence_id: i for i, s in enumerate(found.sequences)}
        labels = []
        for rollout in rollouts:
            last = last_tokens(rollout)
            columns = np.zeros((2, len(last)))
            if (place := places.get(rollout.rollout_id)) is not None:
                columns[:] = found.targets[place][last], found.weights[place][last]
            labels.append((columns[0], columns[1]))
        return labels
