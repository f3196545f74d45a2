"""A process reward model with no head of its own: what it learnt to prefer to its start."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from rlstep.config import LearnerConfig, needs_head
from rlstep.interfaces import LabelView, Loss, Reader, StepModel
from rlstep.scoring.step_models.prm_text import needs_vocabulary
from rlstep.tensors.labels import Soft, step_labels
from rlstep.types import Failure, Floats, LabelSamples, Rollout, Score, Sequence, StepScores


@dataclass(frozen=True, kw_only=True)
class ImplicitStepPrm(StepModel):
    """A step's score is the sigmoid of beta log(pi_phi / pi_ref), summed over its tokens.

    The parameterisation of implicit PRMs (Yuan et al. 2024, arXiv:2412.01981), which learn from
    outcomes; here each step has a label of its own, from the policy's continuations. A scalar head
    has to learn from nothing how to check a step; a language model that could have written it has
    only to learn which ones to prefer, so a few dozen labelled chains are enough. An untrained one
    scores every step 0.5. The reference is the model that it started as.
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
        name = "step_models (ImplicitStepPrm)"
        needs_head(name, self, "language_model", LabelSamples)
        if self.learner.reference != "initial":
            raise ValueError(
                f"{name}.learner.reference is {self.learner.reference!r}; it must be 'initial'"
            )
        if (beta := getattr(self.loss, "beta", None)) != self.beta:
            raise ValueError(f"{name}.beta is {self.beta}, but its loss has beta {beta}")

    def reader(self, tokenizer: Any) -> Reader | None:
        needs_vocabulary("step_models (ImplicitStepPrm)", tokenizer, self.learner.model.path)
        return None

    def samples(self, rollouts: Seq[Rollout]) -> LabelSamples:
        """Every token of a labelled step has the step's target, and its share of the weight."""
        labels = step_labels(rollouts, self.view)
        rows = zip(labels.sequences, labels.targets, labels.weights, strict=True)
        spread = [_over_tokens(*row) for row in rows]
        return LabelSamples(
            sequences=tuple(row[0] for row in spread),
            targets=tuple(row[1] for row in spread),
            weights=tuple(row[2] for row in spread),
        )

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        ratios = predictions[len(rollout.prompt.token_ids) :].astype(np.float64)
        logits = self.beta * np.array(
            [ratios[step.start : step.end].sum() for step in rollout.steps]
        )
        if not np.isfinite(logits).all():
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        return StepScores(values=(1 / (1 + np.exp(-logits))).astype(np.float32), version=version)


def _over_tokens(
    labelled: Sequence, targets: Floats, weights: Floats
) -> tuple[Sequence, Floats, Floats]:
    """Columns of the steps' last tokens as columns of all their tokens, float32 [L] each."""
    inside = labelled.step_index >= 0
    index = labelled.step_index[inside]
    of_steps = [np.bincount(index, weights=column[inside]) for column in (targets, weights)]
    columns = np.zeros((2, len(inside)), dtype=np.float32)
    columns[:, inside] = of_steps[0][index], (of_steps[1] / np.bincount(index))[index]
    mask = columns[1] > 0.0
    return replace(labelled, loss_mask=mask), columns[0], columns[1]
