"""A process reward model that says how sure it is of each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlstep.checks import at_least
from rlstep.config import needs_head
from rlstep.scoring.step_models.prm import Prm
from rlstep.tensors.sequences import last_tokens
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, StepScores


@dataclass(frozen=True, kw_only=True)
class Urm(Prm):
    """A PRM whose head gives a mean and a log standard deviation for each step.

    URM (Lou et al. 2024, arXiv:2410.00847) at the steps' last tokens, trained by
    `GaussianLabelLoss` on the same labels as the PRM. Scores are the means, never draws; log_sigma
    is how far a label, k of n continuations, is expected to lie from them. That is the noise of the
    labels, which more data do not remove; what the model has not learnt shows where the members of
    an `Ensemble` disagree.
    """

    source: str = "urm"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        name = "step_models (Urm)"
        needs_head(name, self, "token_classification", LabelSamples, outputs=2, of_logits=True)
        at_least(f"{name}.every", self.every, 1)

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        """predictions: float32 [P + T, 2], the logit of the mean and log sigma of every token."""
        logits, log_sigma = predictions[last_tokens(rollout)].astype(np.float64).T
        if not (np.isfinite(logits).all() and np.isfinite(log_sigma).all()):
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        return StepScores(
            values=(1 / (1 + np.exp(-logits))).astype(np.float32),
            version=version,
            log_sigma=log_sigma.astype(np.float32),
        )
