"""A process reward model that the policy itself labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.config import LearnerConfig, needs_head
from rlstep.interfaces import LabelView, Loss, StepModel
from rlstep.labels import Soft, step_labels
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, StepScores


@dataclass(frozen=True, kw_only=True)
class Prm(StepModel):
    """A step's score is the sigmoid of a scalar head at the step's last token.

    Trained on Monte-Carlo labels of the policy's own continuations: no oracle, no human and no
    larger model is asked (Math-Shepherd, Wang et al. 2023, arXiv:2312.08935).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"monte_carlo"})

    learner: LearnerConfig
    """With head 'token_classification'; it usually starts from the policy's own weights."""
    loss: Loss
    view: LabelView = Soft()
    """What of the counts is the label."""
    source: str = "prm"

    def __post_init__(self) -> None:
        needs_head("step_models (Prm)", self, "token_classification", LabelSamples)

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        return step_labels(rollouts, self.view)

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        last = len(rollout.prompt.token_ids) + np.array([s.end - 1 for s in rollout.steps], int)
        picked = predictions[last].astype(np.float64)
        if not np.isfinite(picked).all():
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        return StepScores(values=(1 / (1 + np.exp(-picked))).astype(np.float32), version=version)
