"""A process reward model that scores a step by how likely it would be to write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstep.config import LearnerConfig, needs_head
from rlstep.interfaces import LabelView, Loss, Reader, StepModel
from rlstep.scoring.step_models.prm_text import needs_vocabulary
from rlstep.tensors.labels import Soft, step_token_labels
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, StepScores


@dataclass(frozen=True, kw_only=True)
class LikelihoodPrm(StepModel):
    """A step's score is its probability under a language model that is taught right steps.

    It is trained to write the steps that the policy's continuations found right and not those they
    found wrong (likelihood and unlikelihood, Welleck et al. 2019, arXiv:1908.04319). It usually
    starts as the policy: its first scores are the policy's own confidence, and labels correct
    that. A scalar head must learn how to check a step before it can say anything.

    For steps that can be written in few ways, as in formal tasks: of a long step in free text
    every wording is unlikely.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"monte_carlo"})

    learner: LearnerConfig
    """A language model."""
    loss: Loss
    """`StepLikelihoodLoss`."""
    view: LabelView = Soft()
    """What of the counts is the label."""
    source: str = "prm"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        needs_head("step_models (LikelihoodPrm)", self, "language_model", LabelSamples)

    def reader(self, tokenizer: Any) -> Reader | None:
        needs_vocabulary("step_models (LikelihoodPrm)", tokenizer, self.learner.model.path)
        return None

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        return step_token_labels(rollouts, self.view)

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        logs = predictions[len(rollout.prompt.token_ids) :].astype(np.float64)
        sums = np.array([logs[step.start : step.end].sum() for step in rollout.steps])
        if not np.isfinite(sums).all():
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        return StepScores(values=np.exp(sums).astype(np.float32), version=version)
