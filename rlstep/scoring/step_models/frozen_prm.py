"""A process reward model that is at hand and stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.config import SCORE_HEADS, LearnerConfig, PoolingConfig, needs_head
from rlstep.interfaces import Reader, StepLayout, StepModel
from rlstep.scoring.step_models.prm import sigmoid_at_steps
from rlstep.scoring.step_models.prm_text import (
    bounded,
    context_of,
    needs_vocabulary,
)
from rlstep.tensors.inputs import own_inputs
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import Floats, LabelSamples, Rollout, Samples, Score


@dataclass(frozen=True, kw_only=True)
class FrozenPrm(StepModel):
    """Step scores of a released (or an earlier) PRM, which is never trained.

    For peiyi9979/math-shepherd-mistral-7b-prm: head 'two_token' and `MathShepherdLayout`. For
    Qwen/Qwen2.5-Math-PRM-7B: head 'process_reward' and `QwenMathPrmLayout`. For a PRM that this
    library exported: its head, and the layout that it was trained with.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    loss: ClassVar[None] = None

    learner: LearnerConfig
    """Model, head, ranks and token budget; there is no optimizer."""
    layout: StepLayout | None = None
    """None: it reads the policy's own tokens, each step at its last one."""
    engine: PoolingConfig | None = None
    """None: a Hugging Face forward on the learner's ranks. Else vLLM's pooling engine."""
    source: str = "prm"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        needs_head("step_models (FrozenPrm)", self, SCORE_HEADS, LabelSamples)

    def reader(self, tokenizer: Any) -> Reader:
        path = self.learner.model.path
        most = context_of(path)
        if self.engine is not None:
            most = min(most, self.engine.context)
        if self.layout is None:
            needs_vocabulary("step_models (FrozenPrm)", tokenizer, path)
            return bounded(own_inputs, most)
        return bounded(self.layout.reader(tokenizer, read_tokenizer(path)), most)

    def samples(self, rollouts: Sequence[Rollout]) -> Samples:
        """None: it is never trained."""
        return LabelSamples(sequences=(), targets=(), weights=())

    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        return sigmoid_at_steps(rollout, predictions, self.source, version)
