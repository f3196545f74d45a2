"""Process rewards out of outcome labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstep.config import LearnerConfig, needs_head
from rlstep.interfaces import Loss, Reader, StepModel
from rlstep.scoring.step_models.prm_text import needs_vocabulary
from rlstep.tensors.sequences import sequence
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, TokenScores


@dataclass(frozen=True, kw_only=True)
class ImplicitPrm(StepModel):
    """A token's reward is beta log(pi_phi / pi_ref), of a language model trained on outcomes.

    Their sum over a completion is the logit of a correct outcome (Yuan et al. 2024,
    arXiv:2412.01981; online as in PRIME, arXiv:2502.01456: scores come from before the update).
    The reference is the model that it started as.
    """

    log_ratios: ClassVar[bool] = True
    source: ClassVar[str] = "implicit"

    learner: LearnerConfig
    """A language model with reference 'initial'."""
    loss: Loss
    """`ImplicitOutcomeLoss`, with the same beta."""
    beta: float = 0.05
    """What log-ratios are multiplied by."""

    def __post_init__(self) -> None:
        needs_log_ratios("step_models (ImplicitPrm)", self, self.beta)

    def reader(self, tokenizer: Any) -> Reader | None:
        needs_vocabulary("step_models (ImplicitPrm)", tokenizer, self.learner.model.path)
        return None

    def samples(self, rollouts: Sequence[Rollout]) -> LabelSamples:
        """Whole completions, each token with the outcome as its target."""
        known = [r for r in rollouts if r.outcome is not None and r.parent is None]
        sequences = tuple(sequence(rollout) for rollout in known)
        ones = tuple(s.loss_mask.astype(np.float32) for s in sequences)
        outcomes = [rollout.outcome.value for rollout in known if rollout.outcome is not None]
        return LabelSamples(
            sequences=sequences,
            targets=tuple(o * row for o, row in zip(outcomes, ones, strict=True)),
            weights=ones,
        )

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        values = self.beta * predictions[len(rollout.prompt.token_ids) :]
        if not np.isfinite(values).all():
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        return TokenScores(values=values.astype(np.float32), version=version)


def needs_log_ratios(name: str, model: StepModel, beta: float) -> None:
    """Refuse an implicit PRM without the start as its reference, or with a loss of another beta.

    Raises:
        ValueError: naming the field and its valid value.
    """
    needs_head(name, model, "language_model", LabelSamples)
    if model.learner.reference != "initial":
        raise ValueError(
            f"{name}.learner.reference is {model.learner.reference!r}; it must be 'initial'"
        )
    if (of_loss := getattr(model.loss, "beta", None)) != beta:
        raise ValueError(f"{name}.beta is {beta}, but its loss has beta {of_loss}")
