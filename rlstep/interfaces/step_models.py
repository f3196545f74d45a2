"""Models that score steps, what they read, and what they learn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from rlstep.learner_config import LearnerConfig, PoolingConfig
from rlstep.types import Failure, Floats, Ints, Rollout, Samples, Score, TokenIds


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepInputs:
    """What a step model reads in place of a rollout's own tokens."""

    token_ids: TokenIds
    """int32, of the step model's own vocabulary."""
    read_at: Ints
    """int32 [K], rising: the position whose prediction is the step's."""


Reader: TypeAlias = Callable[[Rollout], StepInputs | Failure]
"""A rollout to what a step model reads of it, or why it cannot ('too_long')."""


class StepLayout(ABC):
    """How a PRM wants a solution written: which tokens it reads, and where each step is read out.

    Text in the problem or the steps is data: no tag and no special token comes out of it.
    """

    @abstractmethod
    def reader(self, policy: Any, model: Any) -> Reader:
        """The layout for two Hugging Face tokenizers, the policy's and the model's.

        Every read-out is the position of one token; there are as many as the rollout has steps.

        Raises:
            ValueError: the model's tokenizer does not know the layout's tokens.
        """


class LabelView(ABC):
    """Reads Monte-Carlo counts as labels: what a PRM should say of a step, and how much it counts.

    The counts are kept, so one record serves every view.
    """

    @abstractmethod
    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        """Targets in [0, 1] and weights >= 0 of the K steps, float32 [K] each.

        A step of weight 0 is left out of the loss: one without a continuation, for instance.

        Args:
            n: int32 [K + 1], continuations of the prompt (entry 0) and of the prefix that ends
                with each step; 0 where none was drawn.
            k: int32 [K + 1], how many of them were correct.
        """

    def labels_of_visits(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        """The same where prefixes were continued on several visits: of all continuations together,
        save where a view looks at their order.

        Args:
            n: int32 [V, K + 1], of each visit, in order; 0 where there were fewer.
            k: int32 [V, K + 1].
        """
        return self.labels(n.sum(0, dtype=np.int32), k.sum(0, dtype=np.int32))


class StepModel(ABC):
    """A model that scores rollouts and learns from them: a PRM, a critic, an implicit PRM.

    It is a learner beside the policy's. In every iteration it first scores the batch, and is then
    trained on it: nothing is scored by a model that has seen it.
    """

    source: str
    """The name of its scores, of its metrics and of its part of a checkpoint."""
    learner: LearnerConfig
    loss: Any
    """A `Loss`, or None: the model is never trained. (A plug-in's own field says which.)"""
    every: int = 1
    """It is trained in every so many-th iteration, on that iteration's rollouts."""
    engine: PoolingConfig | None = None
    """vLLM in place of the learner, for a model that is never trained."""
    reads: ClassVar[frozenset[str]] = frozenset({"outcome"})
    """Scores its training needs; a run that does not produce them is refused."""
    log_ratios: ClassVar[bool] = False
    """Whether it reads, of a language model, logprobs minus its reference's."""
    reads_logprobs: ClassVar[bool] = False
    """Whether it compares the sampler's logprobs with its own, which are of temperature 1."""
    embeds: ClassVar[bool] = False
    """Whether it reads, of a scalar head, what goes into it at the steps' last tokens as well."""

    of_rollouts: ClassVar[bool] = False
    """Whether its scores are of whole rollouts, and not of steps or tokens."""

    def reader(self, tokenizer: Any) -> Reader | None:
        """What it reads of a rollout, or None: the policy's own tokens, all of them.

        Where it reads others, its `samples` and its `read_out` stay in the policy's tokens all the
        same: labels at the steps' last tokens are moved to where the steps are read out, and the
        predictions from there back, with NaN everywhere else.

        Args:
            tokenizer: the policy's.

        Raises:
            ValueError: the tokenizers or the layout do not fit; before any process starts.
        """
        return None

    @abstractmethod
    def samples(self, rollouts: Sequence[Rollout]) -> Samples:
        """What to train on, from rollouts that carry the scores it reads."""

    @abstractmethod
    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        """Its scores of one rollout.

        Args:
            predictions: float32 [P + T], one number a token, or [P + T, outputs] (see `Loss`).
            version: how many updates the model had.
        """

    def read_out_all(
        self, rollouts: Sequence[Rollout], predictions: Sequence[Floats], version: int
    ) -> list[Score]:
        """The scores of a whole batch, in order: one by one, save where a model looks at all.

        Args:
            predictions: of each rollout as in `read_out`; for a model that `embeds` float32
                [K, 1 + d] (see `LearnerRole.embed`).
        """
        both = zip(rollouts, predictions, strict=True)
        return [self.read_out(rollout, rows, version) for rollout, rows in both]
