"""From samples to padded tensors: collation, the token budget, global counts.

Dimensions: N sequences, L tokens (padded), K steps (padded), P pairs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rlstep.interfaces import AdvantageBatch, Batch, LabelBatch, PairBatch
from rlstep.types import AdvantageSamples, Counts, LabelSamples, PairSamples, Samples, Sequence


def _pad(rows: Seq[np.ndarray], fill: float, dtype: type) -> Tensor:
    """[N, max length] of a numpy dtype, right-padded with `fill`."""
    width = max((len(row) for row in rows), default=0)
    out = np.full((len(rows), width), fill, dtype=dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


def _token_fields(
    sequences: Seq[Sequence], old_logprobs: Seq[np.ndarray], ref_logprobs: Seq[np.ndarray]
) -> dict[str, Tensor]:
    scores = [s.step_scores for s in sequences]
    return {
        "token_ids": _pad([s.token_ids for s in sequences], 0, np.int64),
        "lengths": torch.tensor([len(s.token_ids) for s in sequences], dtype=torch.int64),
        "loss_mask": _pad([s.loss_mask for s in sequences], 0, np.bool_),
        "step_index": _pad([s.step_index for s in sequences], -1, np.int64),
        "rollout_logprobs": _pad([s.rollout_logprobs for s in sequences], 0.0, np.float32),
        "old_logprobs": _pad(old_logprobs, 0.0, np.float32),
        "ref_logprobs": _pad(ref_logprobs, 0.0, np.float32),
        "step_scores": _pad(scores, 0.0, np.float32),
        "step_mask": _pad([np.ones(len(row), dtype=bool) for row in scores], 0, np.bool_),
    }


@singledispatch
def collate(
    samples: Samples, old_logprobs: Seq[np.ndarray], ref_logprobs: Seq[np.ndarray]
) -> Batch:
    """Padded tensors of all sequences of a mini-batch.

    Args:
        samples: any kind of samples.
        old_logprobs: float32 [L] per sequence (see TokenBatch).
        ref_logprobs: float32 [L] per sequence.
    """
    raise TypeError(f"{type(samples).__name__} is no kind of samples")


@collate.register
def _(samples: PairSamples, old_logprobs: Seq[np.ndarray], ref_logprobs: Seq[np.ndarray]) -> Batch:
    prompts = [samples.sequences[p.chosen].prompt_id for p in samples.pairs]
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    return PairBatch(
        **_token_fields(samples.sequences, old_logprobs, ref_logprobs),
        chosen=torch.tensor([p.chosen for p in samples.pairs], dtype=torch.int64),
        rejected=torch.tensor([p.rejected for p in samples.pairs], dtype=torch.int64),
        chosen_score=torch.tensor([p.chosen_score for p in samples.pairs], dtype=torch.float32),
        rejected_score=torch.tensor([p.rejected_score for p in samples.pairs], dtype=torch.float32),
        prompt=torch.tensor([numbers[prompt] for prompt in prompts], dtype=torch.int64),
    )


@collate.register
def _(
    samples: AdvantageSamples, old_logprobs: Seq[np.ndarray], ref_logprobs: Seq[np.ndarray]
) -> Batch:
    return AdvantageBatch(
        **_token_fields(samples.sequences, old_logprobs, ref_logprobs),
        advantages=_pad(samples.advantages, 0.0, np.float32),
    )


@collate.register
def _(samples: LabelSamples, old_logprobs: Seq[np.ndarray], ref_logprobs: Seq[np.ndarray]) -> Batch:
    return LabelBatch(
        **_token_fields(samples.sequences, old_logprobs, ref_logprobs),
        targets=_pad(samples.targets, 0.0, np.float32),
        weights=_pad(samples.weights, 0.0, np.float32),
    )


def count(samples: Samples) -> Counts:
    """The global counts that a loss over these samples divides by."""
    return Counts(
        sequences=sum(bool(s.loss_mask.any()) for s in samples.sequences),
        tokens=int(sum(s.loss_mask.sum() for s in samples.sequences)),
        pairs=len(samples.pairs) if isinstance(samples, PairSamples) else 0,
        weight=_total_weight(samples) if isinstance(samples, LabelSamples) else 0.0,
    )


def _total_weight(samples: LabelSamples) -> float:
    columns = zip(samples.sequences, samples.weights, strict=True)
    return float(sum(weights[s.loss_mask].sum(dtype=np.float64) for s, weights in columns))


def mini_batches(samples: Samples, number: int) -> list[Samples]:
    """Split by prompt, in order, into at most `number` mini-batches of nearly equal prompt counts.

    Sequences of one prompt, and so the two sides of a pair, stay together.
    """
    prompts = list(dict.fromkeys(s.prompt_id for s in samples.sequences))
    chunks = [set(chunk) for chunk in np.array_split(np.array(prompts, dtype=object), number)]
    return [_subset(samples, chunk) for chunk in chunks if chunk]


def _subset(samples: Samples, prompts: set[str]) -> Samples:
    keep = [i for i, s in enumerate(samples.sequences) if s.prompt_id in prompts]
    sequences = tuple(samples.sequences[i] for i in keep)
    if isinstance(samples, PairSamples):
        place = {old: new for new, old in enumerate(keep)}
        pairs = tuple(
            replace(p, chosen=place[p.chosen], rejected=place[p.rejected])
            for p in samples.pairs
            if p.chosen in place
        )
        return replace(samples, sequences=sequences, pairs=pairs)
    if isinstance(samples, AdvantageSamples):
        return replace(
            samples, sequences=sequences, advantages=tuple(samples.advantages[i] for i in keep)
        )
    return replace(
        samples,
        sequences=sequences,
        targets=tuple(samples.targets[i] for i in keep),
        weights=tuple(samples.weights[i] for i in keep),
    )


Rows: TypeAlias = list[list[int]]
"""A micro-batch: the positions of the sequences that stand one after the other in each row."""


def micro_batches(
    lengths: Seq[int], token_budget: int, ranks: int, *, packing: bool
) -> list[list[Rows]]:
    """The rows of every micro-batch of every rank: `[rank][micro_batch][row]`.

    Longest first, so that running out of memory shows at once. A micro-batch holds at most
    `token_budget` padded tokens (a longer single sequence gets one of its own); its rows are as
    long as its first sequence. With packing what is left of a row takes the longest sequence that
    fits, over and over; without, padding. All ranks have the same number of micro-batches, the
    last possibly empty, since collective operations (ZeRO-3 gathers) must match.
    """
    return deal(fill(lengths, token_budget, packing=packing), ranks)


def fill(lengths: Seq[int], token_budget: int, *, packing: bool) -> list[Rows]:
    """See `micro_batches`, whose micro-batches these are, the longest first."""
    left = sorted(range(len(lengths)), key=lambda i: (lengths[i], -i))
    batches: list[Rows] = []
    while left:
        width = lengths[left[-1]]
        rows: Rows = []
        while left and len(rows) < max(1, token_budget // width):
            rows.append(_row(left, lengths, width if packing else 0))
        batches.append(rows)
    return batches


def deal(batches: Seq[Rows], ranks: int) -> list[list[Rows]]:
    """In turn to the ranks, with empty ones at the end so that all have as many."""
    rounds = -(-len(batches) // ranks)
    dealt = [*batches, *([] for _ in range(rounds * ranks - len(batches)))]
    return [dealt[rank::ranks] for rank in range(ranks)]


def _row(left: list[int], lengths: Seq[int], width: int) -> list[int]:
    """Takes the last of `left`, which rises by length, and what fits beside it into the width."""
    row = [left.pop()]
    room = width - lengths[row[0]]
    while fitting := bisect_right(left, room, key=lambda i: lengths[i]):
        row.append(left.pop(fitting - 1))
        room -= lengths[row[-1]]
    return row


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """The sequences of a micro-batch as a model reads them: R rows, n sequences, W and L tokens.

    Where a sequence starts in a row the places start again, by which the model tells the sequences
    apart.
    """

    token_ids: Tensor
    """int64 [R, W], 0 in the padding."""
    places: Tensor | None
    """int64 [R, W], of a token in its sequence; they go on in the padding behind it. None where no
    row has a second sequence."""
    index: Tensor
    """int64 [n, L], where each token stands among the R * W; in the padding any other one."""
    saved: int = 0
    """Tokens of the sequences that stand there for several of them at once, counted without one."""

    def unpack(self, values: Tensor) -> Tensor:
        """[R, W, ...] to [n, L, ...], one sequence a row."""
        return values.flatten(0, 1)[self.index]

    @property
    def targets(self) -> Tensor:
        """int64 [R, W'], W tokens or one more: what `ahead` speaks of, from its second on."""
        return self.token_ids

    def ahead(self, values: Tensor) -> Tensor:
        """[R, W, ...] to [R, W', ...], in which what stands at t - 1 is of the token that comes
        before target t in its sequence."""
        return values

    def in_place(self, numbers: Tensor) -> Tensor:
        """Numbers of the targets [R, W'] to numbers of the tokens [R, W]."""
        return numbers

    def attention(self) -> dict[str, Any]:
        """What a model is told of who sees whom, beside the places."""
        return {}

    def to(self, device: torch.device) -> PackedBatch:
        places = None if self.places is None else self.places.to(device)
        return PackedBatch(
            token_ids=self.token_ids.to(device), places=places, index=self.index.to(device)
        )


def pack(token_ids: Seq[np.ndarray], rows: Rows) -> PackedBatch:
    """Lay a micro-batch out in its rows; its sequences are unpacked in the rows' order.

    No rows make one token, so that collective gathers match.
    """
    table = [[token_ids[i] for i in row] for row in rows] or [[np.zeros(1, dtype=np.int32)]]
    joined = _pad([np.concatenate(row) for row in table], 0, np.int64)
    width = joined.shape[1]
    lengths = np.array([len(sequence) for row in table for sequence in row])
    places, starts = np.empty(joined.shape, dtype=np.int64), []
    for number, row in enumerate(table):
        start = 0
        for sequence in row:
            places[number, start:] = np.arange(width - start)
            starts.append(number * width + start)
            start += len(sequence)
    reach = np.arange(lengths.max())
    index = np.array(starts)[:, None] + np.where(reach < lengths[:, None], reach, 0)
    several = any(len(row) > 1 for row in table)
    return PackedBatch(
        token_ids=joined,
        places=torch.from_numpy(places) if several else None,
        index=torch.from_numpy(index),
    )
