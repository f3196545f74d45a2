"""An outcome reward model that is at hand and stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstep.config import LearnerConfig, PoolingConfig, needs_head
from rlstep.interfaces import Reader, StepModel
from rlstep.scoring.step_models.prm_text import bounded, context_of, needs_vocabulary
from rlstep.tensors.inputs import own_inputs
from rlstep.tensors.sequences import last_tokens
from rlstep.types import Failure, Floats, LabelSamples, Rollout, RolloutScore, Samples, Score


@dataclass(frozen=True, kw_only=True)
class RewardModel(StepModel):
    """One number for a whole rollout: a scalar head at its last token, as `BradleyTerry` trains it.

    It reads the policy's own tokens, prompt and template included (Ouyang et al. 2022,
    arXiv:2203.02155). Its size means nothing, the difference of two rollouts of a prompt is
    the log-odds that the one is preferred: for estimators that compare the rollouts of a group
    (`GroupAdvantages(source="reward_model")`).
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    loss: ClassVar[None] = None
    of_rollouts: ClassVar[bool] = True

    learner: LearnerConfig
    """With head 'token_classification' and a folder that `rlstep fit` exported; there is no
    optimizer."""
    engine: PoolingConfig | None = None
    """None: a Hugging Face forward on the learner's ranks. Else vLLM's pooling engine."""
    source: str = "reward_model"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        needs_head("step_models (RewardModel)", self, "token_classification", LabelSamples)

    def reader(self, tokenizer: Any) -> Reader:
        path = self.learner.model.path
        needs_vocabulary("step_models (RewardModel)", tokenizer, path)
        most = context_of(path)
        if self.engine is not None:
            most = min(most, self.engine.context)
        return bounded(own_inputs, most)

    def samples(self, rollouts: Sequence[Rollout]) -> Samples:
        """None: it is never trained."""
        return LabelSamples(sequences=(), targets=(), weights=())

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        if not rollout.steps:
            return Failure(reason="no_steps", detail=self.source)
        reward = float(predictions[last_tokens(rollout)[-1]])
        if not np.isfinite(reward):
            return Failure(reason="not_finite", detail=self.source)
        return RolloutScore(value=reward)
