"""A process reward model with no head of its own: what it learnt to prefer to its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstep.config import LearnerConfig
from rlstep.interfaces import LabelView, Loss, Reader, StepModel
from rlstep.scoring.step_models.implicit_prm import needs_log_ratios
from rlstep.scoring.step_models.prm_text import needs_vocabulary
from rlstep.tensors.labels import Soft, step_token_labels
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, StepScores


@dataclass(frozen=True, kw_only=True)
class ImplicitStepPrm(StepModel):
    """A step's score is the sigmoid of beta log(pi_phi / pi_ref), summed over its tokens.

    The parameterisation of implicit PRMs (Yuan et al. 2024, arXiv:2412.01981), which learn from
    outcomes; here each step has a label of its own, from the policy's continuations. A scalar head
    has to learn from nothing how to check a step; a language model that could have written it has
    only to learn which ones to prefer, so a few dozen labelled chains are enough. An untrained one
    scores every step 0.5. The reference is the model that it started as.

    It ranks steps; as the reward of a policy gradient without a KL it has ruined a policy at an AUC
    of 0.9 (docs/studies.md): the ratio of a token that both find unlikely is noise, and a policy
    runs after it. `LikelihoodPrm` has no such ratio.
    """

    log_ratios: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset({"monte_carlo"})

    learner: LearnerConfig
    """A language model with reference 'initial'; it usually starts as the policy."""
    loss: Loss
    """`ImplicitStepLoss`, with the same beta."""
    beta: float = 1.0
    """What log-ratios are multiplied by: in nats, a step twice as likely as it was has the logit
    0.69 beta."""
    view: LabelView = Soft()
    """What of the counts is the label."""
    source: str = "prm"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        needs_log_ratios("step_models (ImplicitStepPrm)", self, self.beta)

    def reader(self, tokenizer: Any) -> Reader | None:
        needs_vocabulary("step_models (ImplicitStepPrm)", tokenizer, self.learner.model.path)
        return None

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        return step_token_labels(rollouts, self.view)

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        ratios = predictions[len(rollout.prompt.token_ids) :].astype(np.float64)
        logits = self.beta * np.array(
            [ratios[step.start : step.end].sum() for step in rollout.steps]
        )
        if not np.isfinite(logits).all():
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        return StepScores(values=(1 / (1 + np.exp(-logits))).astype(np.float32), version=version)
