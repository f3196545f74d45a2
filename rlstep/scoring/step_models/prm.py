"""A process reward model that the policy itself labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstep.checks import at_least
from rlstep.config import SCORE_HEADS, LearnerConfig, needs_head
from rlstep.interfaces import LabelView, Loss, Reader, StepLayout, StepModel
from rlstep.scoring.step_models.prm_text import (
    bounded,
    context_of,
    needs_vocabulary,
)
from rlstep.tensors.inputs import own_inputs
from rlstep.tensors.labels import Soft, step_labels
from rlstep.tensors.sequences import last_tokens
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, StepScores


@dataclass(frozen=True, kw_only=True)
class Prm(StepModel):
    """A step's score is the sigmoid of a head's number at the step's last token, or at its tag.

    Trained on Monte-Carlo labels of the policy's own continuations: no oracle, no human and no
    larger model is asked (Math-Shepherd, Wang et al. 2023, arXiv:2312.08935).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"monte_carlo"})

    learner: LearnerConfig
    """With any head that scores ('token_classification', 'two_token', ...). It usually starts from
    the policy's own weights; a folder that `rlstep fit` exported is a warm start."""
    loss: Loss
    """What it is trained with, of step labels: `StepLabelLoss`, as a rule."""
    layout: StepLayout | None = None
    """None: it reads the policy's own tokens, each step at its last one."""
    every: int = 1
    """Train in every so many-th iteration; labels of the iterations between are not used."""
    view: LabelView = Soft()
    """What of the counts is the label."""
    source: str = "prm"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        needs_head("step_models (Prm)", self, SCORE_HEADS, LabelSamples, of_logits=True)
        at_least("step_models (Prm).every", self.every, 1)

    def reader(self, tokenizer: Any) -> Reader:
        path = self.learner.model.path
        if self.layout is None:
            needs_vocabulary("step_models (Prm)", tokenizer, path)
            return bounded(own_inputs, context_of(path))
        return bounded(self.layout.reader(tokenizer, read_tokenizer(path)), context_of(path))

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        return step_labels(rollouts, self.view)

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        return sigmoid_at_steps(rollout, predictions, self.source, version)


def sigmoid_at_steps(rollout: Rollout, predictions: Floats, source: str, version: int) -> Score:
    """Scores in [0, 1] of logits at the steps' last tokens.

    Args:
        predictions: float32 [P + T].
    """
    picked = predictions[last_tokens(rollout)].astype(np.float64)
    if not np.isfinite(picked).all():
        return Failure(reason="not_finite", detail=f"{source} version {version}")
    return StepScores(values=(1 / (1 + np.exp(-picked))).astype(np.float32), version=version)
