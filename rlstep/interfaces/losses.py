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


COLUMNS = ("entropies", "divergences")
"""What a loss can have of every token of a language model beside its logprob."""

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
    of a language model that reads some of `COLUMNS` gets predictions [N, L, 1 + columns] instead:
    the logprob of token t, and behind it what it reads, in their order. 'entropies' are those of
    the distribution that token t is drawn from, 'divergences' how far that is from the reference's
    (see `divergences`), both in nats and 0 at t = 0. A loss of a scalar head that wants several
    `outputs` gets predictions [N, L, outputs].

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
    of_head: ClassVar[bool] = False
    """Whether it is of a scalar head's numbers, and not of logprobs."""
    of_logits: ClassVar[bool] = False
    """Whether it fits the sigmoid of a scalar head, and not the head's number itself."""
    of_elbo: ClassVar[bool] = False
    """Whether it can be of a masked diffusion model, where every row is a sequence under one random
    masking: predictions [N, L] then are trained / hidden tokens times the logprob of a hidden
    token, 0 elsewhere, so that a row's sum is a sample of the sequence's ELBO and no number is a
    token's logprob. It must be linear in a row, or a bound that adds up over the rows."""
    laws: ClassVar[frozenset[str]] = frozenset()
    """Names of the laws in tests/test_laws.py that hold for it."""

    @property
    def reads(self) -> frozenset[str]:
        """Which of 'old_logprobs', 'ref_logprobs' and `COLUMNS` it reads; the learner computes no
        others."""
        return frozenset()

    def divergences(self, logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
        """How far every token's distribution is from the reference's, where it reads 'divergences'.

        Called once a micro-batch, with a gradient by `logits` alone.

        Args:
            logits: [N, L, V] in any floating type, the policy's.
            reference: [N, L, V'], those of the learner's fixed reference on the same tokens. V' may
                differ from V by embeddings that stand for no token.
            temperature: what both are divided by.

        Returns:
            float32 [N, L]: entry t is of the distribution that token t is drawn from, the logits at
            t - 1; 0 at t = 0.
        """
        raise NotImplementedError(f"{type(self).__name__} reads 'divergences' and defines none")

    @abstractmethod
    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        """predictions: float32 [N, L], [N, L, 1 + columns], or [N, L, outputs]. Returns a scalar
        loss."""
