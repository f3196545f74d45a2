"""What a learner minimises, and the batches that it is handed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

from rlstep.types import Counts

if TYPE_CHECKING:  # ring 0 loads no torch; the losses do
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Right-padded sequences. Every tensor's first dimension is N."""

    token_ids: Tensor
    """int64 [N, L], 0 in the padding."""
    lengths: Tensor
    """int64 [N]."""
    loss_mask: Tensor
    """bool [N, L], False in the padding."""
    step_index: Tensor
    """int64 [N, L], -1 outside steps."""
    rollout_logprobs: Tensor
    """float32 [N, L], the sampler's."""
    old_logprobs: Tensor
    """float32 [N, L], the learner's own before its first update on these samples."""
    ref_logprobs: Tensor
    """float32 [N, L], the reference's."""
    step_scores: Tensor
    """float32 [N, K], 0 in the padding."""
    step_mask: Tensor
    """bool [N, K]: True where the sequence has that step."""

    def rows(self: BatchT, index: Tensor) -> BatchT:
        """The same batch with only the given sequences."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self: BatchT, device: torch.device) -> BatchT:
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


BatchT = TypeVar("BatchT", bound=TokenBatch)


@dataclass(frozen=True, kw_only=True)
class PairBatch(TokenBatch):
    """Preference pairs over the N sequences."""

    chosen: Tensor
    """int64 [P], rows of the chosen sides."""
    rejected: Tensor
    """int64 [P]."""
    chosen_score: Tensor
    """float32 [P]: what ordered the sides (see types.Pair)."""
    rejected_score: Tensor
    """float32 [P]."""
    prompt: Tensor
    """int64 [P], equal for the pairs of one prompt."""

    def rows(self, index: Tensor) -> PairBatch:
        raise TypeError("pairs join sequences; a pair loss sees the whole mini-batch")


@dataclass(frozen=True, kw_only=True)
class AdvantageBatch(TokenBatch):
    advantages: Tensor
    """float32 [N, L], 0 where loss_mask is False."""


@dataclass(frozen=True, kw_only=True)
class LabelBatch(TokenBatch):
    targets: Tensor
    """float32 [N, L]."""
    weights: Tensor
    """float32 [N, L], 0 where loss_mask is False."""


Batch: TypeAlias = PairBatch | AdvantageBatch | LabelBatch


@dataclass(frozen=True)
class LossOutput:
    """A scalar to minimise and numbers to look at."""

    loss: Tensor
    metrics: Mapping[str, Tensor]
    """Scalars that are already divided by a global count, so that micro-batches and ranks add."""


class Loss(ABC):
    """A pure function of the model's per-token predictions.

    For a language model `predictions[n, t]` is the logprob of token t of sequence n given what came
    before it (0 at t = 0); for a scalar head it is the head's output at token t. A separable loss
    of a language model that reads 'entropies' gets predictions [N, L, 2] instead: the logprob of
    token t and the entropy, in nats, of the distribution that token t is drawn from (0 at t = 0).
    One of a scalar head that wants several `outputs` gets predictions [N, L, outputs].

    A loss sums and divides by the global `counts` that it is handed. A *separable* loss is a sum
    over sequences, called once a micro-batch with that micro-batch's rows. Any other loss is
    called once with the predictions of the whole mini-batch as a leaf, and the learner carries its
    gradient through the model micro-batch by micro-batch (the chain rule, so exactly): no loss ever
    sees where micro-batches or ranks were cut.
    """

    takes: ClassVar[type]
    """The kind of samples, one of the `Samples` records."""
    separable: ClassVar[bool] = False
    outputs: ClassVar[int] = 1
    """Numbers a token that it wants of a scalar head; the learner makes the head as wide."""
    of_logits: ClassVar[bool] = False
    """Whether it fits the sigmoid of a scalar head, and not the head's number itself."""
    laws: ClassVar[frozenset[str]] = frozenset()
    """Names of the laws in tests/test_laws.py that hold for it."""

    @property
    def reads(self) -> frozenset[str]:
        """Which of 'old_logprobs', 'ref_logprobs' and 'entropies' it reads; the learner computes no
        others."""
        return frozenset()

    @abstractmethod
    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        """predictions: float32 [N, L], [N, L, 2] with entropies, or [N, L, outputs]. Returns a
        scalar loss."""
