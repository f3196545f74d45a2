"""A teacher: a language model that says how likely it finds what the policy wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from rlstep.config import LearnerConfig, PoolingConfig, needs_head
from rlstep.interfaces import Reader, StepModel
from rlstep.scoring.step_models.prm_text import needs_same_ids
from rlstep.types import (
    Failure,
    Floats,
    LabelSamples,
    Rollout,
    Samples,
    Score,
    StepScores,
    TokenScores,
)


@dataclass(frozen=True, kw_only=True)
class Teacher(StepModel):
    """log(teacher / policy) of every token that the policy sampled; it is never trained.

    Minus its mean is an estimate, k1 of `losses.kl`, of the reverse KL from the policy to the
    teacher on the policy's own samples, what on-policy distillation brings down (MiniLLM, Gu et al.
    2023, arXiv:2306.08543; GKD, Agarwal et al. 2023, arXiv:2306.13649): above 0 where the teacher
    finds a token likelier than the policy did, at a mistake far under it. `TeacherAdvantages` makes
    advantages of it. The policy's logprobs are the sampler's, the teacher's are of temperature 1.
    Divergences over more than the sampled token need both models in one place: see
    `losses.distillation`.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    reads_logprobs: ClassVar[bool] = True
    loss: ClassVar[None] = None

    learner: LearnerConfig
    """A language model with the policy's own tokenizer, its ranks and token budget; there is no
    optimizer. A run's export, for instance."""
    level: Literal["token", "step"] = "token"
    """'token': `TokenScores`, 0 at what was observed. 'step': `StepScores`, the mean over each
    step's tokens, for whatever reads step scores."""
    engine: PoolingConfig | None = None
    """None: a Hugging Face forward on the learner's ranks. Else vLLM, by its prompt's logprobs."""
    source: str = "teacher"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        needs_head("step_models (Teacher)", self, "language_model", LabelSamples)

    def reader(self, tokenizer: Any) -> Reader | None:
        needs_same_ids(
            "step_models (Teacher).learner.model.path", tokenizer, self.learner.model.path
        )
        return None

    def samples(self, rollouts: Sequence[Rollout]) -> Samples:
        """None: it is never trained."""
        return LabelSamples(sequences=(), targets=(), weights=())

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        completion = rollout.completion
        ratios = predictions[len(rollout.prompt.token_ids) :] - completion.logprobs
        values = np.where(completion.sampled, ratios, 0.0).astype(np.float32)
        if not np.isfinite(values).all():
            return Failure(reason="not_finite", detail=f"{self.source} version {version}")
        if self.level == "token":
            return TokenScores(values=values, version=version)
        means = [values[step.start : step.end].mean() for step in rollout.steps]
        return StepScores(values=np.array(means, dtype=np.float32), version=version)
