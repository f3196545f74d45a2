"""What the learner is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rlstep.types.arrays import Bools, Floats, Ints, TokenIds


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sequence:
    """One token sequence to train on. L = prompt and completion tokens together."""

    sequence_id: str
    """The rollout_id, with a suffix where only a part of the rollout is trained."""
    prompt_id: str
    """Sequences of one prompt stay in one mini-batch."""
    token_ids: TokenIds
    """int32 [L]."""
    loss_mask: Bools
    """bool [L]: True where a token is trained."""
    step_index: Ints
    """int32 [L]: 0..K-1 on the steps' tokens, -1 elsewhere. True loss_mask implies >= 0, except
    for the value of the first state, which is trained at the prompt's last token."""
    rollout_logprobs: Floats
    """float32 [L]: the sampler's logprobs, 0 outside the completion."""
    step_scores: Floats
    """float32 [K]: one score per step index; zeros where the algorithm uses none."""
    oldest_version: int
    """The lowest policy version among its trained tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two sequences of one prompt, by their positions in the samples' `sequences`."""

    chosen: int
    rejected: int
    shared_prefix: int
    """Number of leading tokens (prompt included) that both sides have in common."""
    chosen_score: float
    """What ordered the two: outcomes, win rates, tree values, ..."""
    rejected_score: float
    provenance: str
    """How the pair was made: 'outcome', 'first_error', ..."""

    @property
    def margin(self) -> float:
        """Difference of the scores."""
        return self.chosen_score - self.rejected_score


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairSamples:
    """Preference pairs. A sequence that stands in several pairs is listed, and forwarded, once."""

    sequences: tuple[Sequence, ...]
    pairs: tuple[Pair, ...]
    groups: int
    """Groups that gave at least one pair."""
    groups_without_signal: int = 0
    """Groups that were looked at and gave none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AdvantageSamples:
    """Sequences with one advantage per token."""

    sequences: tuple[Sequence, ...]
    advantages: tuple[Floats, ...]
    """float32 [L] each, 0 where loss_mask is False."""
    groups: int
    groups_without_signal: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelSamples:
    """Positions with a target: step labels for a PRM, returns for a critic, next tokens (SFT)."""

    sequences: tuple[Sequence, ...]
    targets: tuple[Floats, ...]
    """float32 [L] each, read where loss_mask is True: in [0, 1] for labels, a critic's returns."""
    weights: tuple[Floats, ...]
    """float32 [L] each, >= 0: how much the label counts (for Monte Carlo, its n)."""


Samples: TypeAlias = PairSamples | AdvantageSamples | LabelSamples


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Global counts of one mini-batch, over all ranks and micro-batches. Losses divide by these."""

    sequences: int
    """Sequences with a trained token."""
    tokens: int
    """Trained tokens (True in loss_mask)."""
    pairs: int = 0
    weight: float = 0.0
    """Sum of label weights."""
