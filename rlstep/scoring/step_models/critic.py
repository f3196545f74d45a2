"""A critic: the value of every state, for GAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstep.advantages.gae import Gae
from rlstep.config import LearnerConfig, needs_head
from rlstep.interfaces import Loss, Reader, StepModel
from rlstep.scoring.step_models.prm_text import needs_vocabulary
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, StepScores, TokenScores


@dataclass(frozen=True, kw_only=True)
class Critic(StepModel):
    """The expected return from each state on, by a scalar head trained on lambda-returns.

    The value before completion token t is the head's output one position earlier, for the first
    token at the prompt's last one (GAE, Schulman et al. 2016, arXiv:1506.02438).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"outcome"})

    learner: LearnerConfig
    """With head 'token_classification'; it starts from the policy's weights and values of 0."""
    loss: Loss
    """`ValueLoss`, as a rule: what the values are trained with."""
    gae: Gae = Gae()
    """The estimator that reads it: its level says whether tokens or steps have values, and its
    gamma and lambda make the targets."""
    source: ClassVar[str] = "critic"

    def __post_init__(self) -> None:
        needs_head("step_models (Critic)", self, "token_classification", LabelSamples)

    def reader(self, tokenizer: Any) -> Reader | None:
        needs_vocabulary("step_models (Critic)", tokenizer, self.learner.model.path)
        return None

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        return self.gae.value_labels(rollouts)

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        values = predictions[len(rollout.prompt.token_ids) - 1 : -1]
        if not np.isfinite(values).all():
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        if self.gae.level == "token":
            return TokenScores(values=values, version=version)
        return StepScores(values=values[[step.start for step in rollout.steps]], version=version)
