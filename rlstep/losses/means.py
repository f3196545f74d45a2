"""How per-token losses become one number. N sequences, L tokens.

Every divisor is a global count or belongs to one sequence, so the parts of a mini-batch add up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rlstep.checks import at_least
from rlstep.interfaces import LabelBatch
from rlstep.tensors.logprobs import masked, step_sums
from rlstep.types import Counts


def row_means(values: Tensor, mask: Tensor) -> Tensor:
    """[N, L] -> [N]: the mean over each sequence's trained tokens, 0 where there are none."""
    return masked(values, mask).sum(1) / mask.sum(1).clamp(min=1)


def step_targets(batch: LabelBatch, like: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of tokens as labels of their steps: a step's weight is the sum of its tokens', its
    target their mean by weight, 0 where there is no weight.

    Args:
        like: whose type the result has.

    Returns:
        Targets and weights, [N, K] each.
    """
    index, mask = batch.step_index, batch.loss_mask
    steps = int(index.max()) + 1 if index.numel() else 0
    tokens = batch.weights.to(like)
    weights = step_sums(tokens, index, mask, steps)
    sums = step_sums(tokens * batch.targets, index, mask, steps)
    return torch.where(weights > 0.0, sums / weights, 0.0), weights


class Mean(ABC):
    """A mean over the trained tokens of a mini-batch."""

    @abstractmethod
    def __call__(self, values: Tensor, mask: Tensor, counts: Counts) -> Tensor:
        """[N, L] of some of the mini-batch's sequences -> a scalar, their share of the mean."""


@dataclass(frozen=True, kw_only=True)
class TokenMean(Mean):
    """Every trained token counts the same, so a long completion counts more than a short one."""

    def __call__(self, values: Tensor, mask: Tensor, counts: Counts) -> Tensor:
        return masked(values, mask).sum() / max(counts.tokens, 1)


@dataclass(frozen=True, kw_only=True)
class SequenceMean(Mean):
    """Every sequence counts the same: the mean over its tokens, then over sequences.

    A token of a long completion counts less. Sequences without a trained token are not counted.
    """

    def __call__(self, values: Tensor, mask: Tensor, counts: Counts) -> Tensor:
        return row_means(values, mask).sum() / max(counts.sequences, 1)


@dataclass(frozen=True, kw_only=True)
class ConstantLength(Mean):
    """The sum over a sequence's tokens divided by a constant, then the mean over sequences.

    Every token counts the same whatever else is in the mini-batch.
    """

    length: int = 3000
    """What to divide by, in tokens; it only scales the loss. Usually the longest completion that
    the sampling allows."""

    def __post_init__(self) -> None:
        at_least("loss.mean.length", self.length, 1)

    def __call__(self, values: Tensor, mask: Tensor, counts: Counts) -> Tensor:
        return masked(values, mask).sum() / (self.length * max(counts.sequences, 1))
