"""Sequences that begin alike, laid out so that what they share is computed once.

A bundle is some sequences of a micro-batch: their common prefix, and behind it what each has of its
own, its branch. Rollouts of a prompt share the prompt, the sides of a pair their first steps, too.
A branch goes on where the prefix ends: its places are those of its sequence, and it sees the prefix
and itself.

    sequences    1 2 3 4    1 2 5    1 2        token ids   1 2 3 4 5
                                                places      0 1 2 3 2

Dimensions: n sequences of at most L tokens, T tokens that are computed; of a reading S segments
(prefixes or branches), Q queries and K keys of each, padded.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlstep.tensors.batching import PackedBatch, Rows, deal, fill
from rlstep.tensors.sequences import shared_prefix

MOST_SEQUENCES = 256
"""Of a bundle; more of them save next to nothing more, and take time to be found."""
WORTH = 8
"""A bundle saves at least one token for so many that it computes. Less, as the first token that
all sequences of a model have, would not pay for the gathering of keys."""
MOST_KEYS = 4
"""Every branch gathers its prefix's keys and values anew: of a micro-batch's bundles at most so
many for each token of the budget, or branches that are short beside a long prefix would take more
memory than they save."""
FREE_SCORES = 1 << 14
"""Attention scores of padding that cost less than another call would."""


class Bundles(list[list[int]]):
    """`batching.Rows`, each of which is a bundle."""


def find_bundles(token_ids: Seq[np.ndarray], token_budget: int) -> list[list[int]]:
    """A partition of the sequences into bundles and single ones.

    What begins alike stands side by side in the order of the tokens. Of all cuts of that order the
    one that saves the most tokens is found, by way of the best cuts of its beginnings.

    Args:
        token_ids: int [L] of each.
        token_budget: most tokens of a bundle, each counted once.

    Returns:
        Positions of the sequences of each.
    """
    order = sorted(range(len(token_ids)), key=lambda i: token_ids[i].astype(">i8").tobytes())
    lengths = np.array([len(token_ids[i]) for i in order], dtype=np.int64)
    pairs = pairwise(token_ids[i] for i in order)
    alike = np.array([shared_prefix(*pair) for pair in pairs], dtype=np.int64)
    best, cut = np.full(len(order) + 1, -1, dtype=np.int64), np.zeros(len(order) + 1, dtype=int)
    best[0] = 0
    for start in range(len(order)):  # the best of those before it is known
        near = slice(start, start + MOST_SEQUENCES)
        prefix = np.minimum.accumulate(np.r_[lengths[start], alike[near][: MOST_SEQUENCES - 1]])
        saved = np.arange(len(prefix)) * prefix
        computed = lengths[near].cumsum() - saved
        keys = lengths[near].cumsum() + prefix
        valid = (computed <= token_budget) & (saved * WORTH >= computed)
        valid &= keys <= MOST_KEYS * token_budget
        valid[0] = True
        after = slice(start + 1, start + 1 + len(prefix))
        better = valid & (best[start] + saved > best[after])
        best[after] = np.where(better, best[start] + saved, best[after])
        cut[after] = np.where(better, start, cut[after])
    found, end = [], len(order)
    while end:
        found.append(order[cut[end] : end])
        end = cut[end]
    return found[::-1]


def shared_micro_batches(
    token_ids: Seq[np.ndarray], token_budget: int, ranks: int, *, packing: bool
) -> list[list[Rows]]:
    """As `batching.micro_batches`, with `Bundles` before the sequences that share nothing.

    The budget counts what is computed, a prefix once. Where it cuts the sequences of a prompt, they
    share within each micro-batch.
    """
    found = find_bundles(token_ids, token_budget)
    single = sorted(row[0] for row in found if len(row) == 1)
    lengths = [len(token_ids[i]) for i in single]
    rest = [
        [[single[i] for i in row] for row in rows]
        for rows in fill(lengths, token_budget, packing=packing)
    ]
    bundles = [sorted(row) for row in found if len(row) > 1]
    return deal([*_filled(token_ids, bundles, token_budget), *rest], ranks)


def _filled(token_ids: Seq[np.ndarray], bundles: list[list[int]], budget: int) -> list[Bundles]:
    """The largest first, each into the first micro-batch that has room."""
    sizes = np.array([_size([token_ids[i] for i in bundle]) for bundle in bundles])
    batches: list[Bundles] = []
    room: list[np.ndarray] = []
    for number in sorted(range(len(bundles)), key=lambda i: (-sizes[i, 0], bundles[i])):
        size = sizes[number]
        fits = next((b for b, left in enumerate(room) if (size <= left).all()), len(batches))
        if fits == len(batches):
            batches.append(Bundles())
            room.append(np.array([budget, MOST_KEYS * budget]))
        batches[fits].append(bundles[number])
        room[fits] -= size
    return batches


def _size(sequences: Seq[np.ndarray]) -> tuple[int, int]:
    """Tokens that are computed, and keys that are gathered."""
    prefix, whole = _common(sequences), sum(map(len, sequences))
    return prefix + whole - prefix * len(sequences), prefix + whole


def _common(sequences: Seq[np.ndarray]) -> int:
    first = sequences[0]
    return min(shared_prefix(first, sequence) for sequence in sequences)


class Segment(NamedTuple):
    """A prefix, or a branch, among the T tokens."""

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0
    """0 of what is a prefix itself."""

    @property
    def scores(self) -> int:
        """What its attention takes."""
        return self.length * (self.prefix_length + self.length)


@dataclass(frozen=True)
class Reading:
    """Segments whose attention is computed together."""

    queries: Tensor
    """int64 [S, Q], which of the T tokens; any in the padding."""
    keys: Tensor
    """int64 [S, K]: the prefix, padded, then the segment's own Q."""
    seen: Tensor | None
    """bool [S or 1, 1, Q, K], which key a query sees; None where each sees all up to its own."""
    masks: dict[torch.dtype, Tensor] = field(default_factory=dict)
    """What is added to scores of a type for it, made once for all layers."""

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """0 where a query sees a key, -inf elsewhere."""
        if self.seen is None:
            return None
        if dtype not in self.masks:
            zeros = torch.zeros(self.seen.shape, dtype=dtype, device=self.seen.device)
            self.masks[dtype] = zeros.masked_fill_(~self.seen, -torch.inf)
        return self.masks[dtype]

    def to(self, device: torch.device) -> Reading:
        seen = None if self.seen is None else self.seen.to(device)
        return Reading(self.queries.to(device), self.keys.to(device), seen)


@dataclass(frozen=True)
class Branches:
    """Who sees whom in a micro-batch of bundles."""

    readings: tuple[Reading, ...]
    back: Tensor
    """int64 [T], where each token stands among all readings' queries."""

    def to(self, device: torch.device) -> Branches:
        readings = tuple(reading.to(device) for reading in self.readings)
        return Branches(readings, self.back.to(device))


@dataclass(frozen=True, kw_only=True)
class BundledBatch(PackedBatch):
    """All bundles of a micro-batch in one row of T tokens, without padding."""

    before: Tensor
    """int64 [T], where the token before each in its sequence stands; any for the first."""
    branches: Branches

    @property
    def targets(self) -> Tensor:
        return F.pad(self.token_ids, (1, 0))

    def ahead(self, values: Tensor) -> Tensor:
        """[1, T, ...] to [1, T + 1, ...]: at t the one before the token t, and one that is cut."""
        return values.flatten(0, 1)[F.pad(self.before, (0, 1))][None]

    def in_place(self, numbers: Tensor) -> Tensor:
        return numbers[:, 1:]

    def attention(self) -> dict[str, Any]:
        # A mask of four dimensions is left alone by transformers; without one it would make one,
        # of T x T, of the places. `branch_attention` knows better.
        ids = self.token_ids
        return {"attention_mask": ids.new_ones(1, 1, 1, 1).bool(), "branches": self.branches}

    def to(self, device: torch.device) -> BundledBatch:
        tensors = {
            name: getattr(self, name).to(device) for name in ("token_ids", "places", "index")
        }
        before, branches = self.before.to(device), self.branches.to(device)
        return replace(self, **tensors, before=before, branches=branches)


def pack_bundles(token_ids: Seq[np.ndarray], rows: Bundles) -> BundledBatch:
    """Lay a micro-batch of bundles out; its sequences are unpacked in the rows' order."""
    pieces: list[np.ndarray] = []
    segments: list[Segment] = []
    paths: list[np.ndarray] = []
    end = 0
    for row in rows:
        sequences = [token_ids[i] for i in row]
        start, length = end, _common(sequences)
        pieces.append(sequences[0][:length])
        segments.append(Segment(start, length))
        end += length
        for sequence in sequences:
            own = len(sequence) - length
            pieces.append(sequence[length:])
            segments.append(Segment(end, own, start, length))
            paths.append(np.r_[start : start + length, end : end + own])
            end += own
    joined = np.concatenate(pieces).astype(np.int64)
    places, before = np.zeros((2, end), dtype=np.int64)
    index = np.zeros((len(paths), max(map(len, paths))), dtype=np.int64)
    for number, path in enumerate(paths):
        index[number, : len(path)] = path
        places[path] = np.arange(len(path))
        before[path[1:]] = path[:-1]
    return BundledBatch(
        token_ids=torch.from_numpy(joined)[None],
        places=torch.from_numpy(places)[None],
        index=torch.from_numpy(index),
        before=torch.from_numpy(before),
        branches=_branches([segment for segment in segments if segment.length], end),
        saved=sum(map(len, paths)) - end,
    )


def _branches(segments: list[Segment], total: int) -> Branches:
    readings, back, offset = [], np.zeros(total, dtype=np.int64), 0
    for some in _together(segments):
        readings.append(_reading(some))
        width = readings[-1].queries.shape[1]
        for number, segment in enumerate(some):
            stands = np.arange(segment.length) + offset + number * width
            back[segment.start : segment.start + segment.length] = stands
        offset += len(some) * width
    return Branches(tuple(readings), torch.from_numpy(back))


def _together(segments: list[Segment]) -> list[list[Segment]]:
    """Of like size, so that padding at most doubles the scores; branches apart from prefixes."""
    found: list[list[Segment]] = []
    ordered = sorted(segments, key=lambda s: (s.prefix_length > 0, -s.length, -s.prefix_length))
    for segment in ordered:
        some = [*found[-1], segment] if found else [segment]
        longest = max(s.prefix_length for s in some)
        padded = len(some) * some[0].length * (longest + some[0].length)
        alike = bool(longest) == bool(some[0].prefix_length)
        if found and alike and padded <= 2 * sum(s.scores for s in some) + FREE_SCORES:
            found[-1] = some
        else:
            found.append([segment])
    return found


def _reading(segments: list[Segment]) -> Reading:
    length = max(s.length for s in segments)
    prefix = max(s.prefix_length for s in segments)
    table = torch.tensor(segments)[:, :, None]  # [S, 4, 1]
    start, own, prefix_start, prefix_own = table.unbind(1)
    along, before = torch.arange(length), torch.arange(prefix)
    queries = start + torch.where(along < own, along, 0)
    keys = torch.cat([prefix_start + torch.where(before < prefix_own, before, 0), queries], 1)
    if not prefix:
        return Reading(queries, keys, None)
    # What stands in the padding sees what it likes, but something: no softmax is of nothing.
    if bool((prefix_own == prefix).all()):
        prefix_own = prefix_own[:1]  # one mask for all
    of_prefix = (before < prefix_own)[:, None, None].expand(-1, 1, length, -1)
    own_part = torch.ones(length, length, dtype=torch.bool).tril()
    seen = torch.cat([of_prefix, own_part.expand(len(prefix_own), 1, -1, -1)], -1)
    return Reading(queries, keys, seen)
