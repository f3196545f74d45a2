"""What sequences share is laid out once, and every token sees its own sequence and nothing else."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.tensors.batching import micro_batches
from rlstep.tensors.bundles import (
    MOST_KEYS,
    WORTH,
    Bundles,
    find_bundles,
    pack_bundles,
    shared_micro_batches,
)


def arrays(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.int32) for row in rows]


@st.composite
def groups(draw: Any) -> tuple[list[np.ndarray], Bundles]:
    """Prompts with some completions, of which some begin alike, are empty or are the same; and
    their positions by prompt."""
    tokens = st.lists(st.integers(1, 3), max_size=6)
    rows: list[list[int]] = []
    by_prompt = Bundles()
    for _ in range(draw(st.integers(1, 3))):
        prompt, shared = draw(tokens), draw(tokens)
        by_prompt.append([])
        for _ in range(draw(st.integers(1, 4))):
            by_prompt[-1].append(len(rows))
            steps = shared if draw(st.booleans()) else []
            rows.append([*prompt, *steps, *draw(tokens)] or [1])
    return arrays(*rows), by_prompt


def test_a_group_worked_by_hand():
    # 1 2 is the prefix of all; behind it 3 4, 5 and nothing.
    ids = arrays([1, 2, 5], [1, 2], [7], [1, 2, 3, 4])
    batch = pack_bundles(ids, Bundles([[3, 0, 1]]))
    assert batch.token_ids.tolist() == [[1, 2, 3, 4, 5]]
    assert batch.places is not None and batch.places.tolist() == [[0, 1, 2, 3, 2]]
    assert batch.before.tolist() == [0, 0, 1, 2, 1]
    assert batch.index.tolist() == [[0, 1, 2, 3], [0, 1, 4, 0], [0, 1, 0, 0]]
    assert batch.saved == 4 + 3 + 2 - 5
    prefix, branches = batch.branches.readings
    assert prefix.queries.tolist() == prefix.keys.tolist() == [[0, 1]] and prefix.seen is None
    # The branches, 3 4 and 5 with a place of padding, behind their prefix: one mask for both.
    assert branches.queries.tolist() == [[2, 3], [4, 4]]
    assert branches.keys.tolist() == [[0, 1, 2, 3], [0, 1, 4, 4]]
    assert branches.seen is not None
    assert branches.seen.int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 1]]]]
    assert batch.branches.back.tolist() == [0, 1, 2, 3, 4]


def test_prefixes_of_two_lengths_worked_by_hand():
    # Tokens 1 2 3 | 4 | 5, then 6 | 7 | 8: the four branches, at 3, 4, 6 and 7, are read together.
    batch = pack_bundles(
        arrays([1, 2, 3, 4], [1, 2, 3, 5], [6, 7], [6, 8]), Bundles([[0, 1], [2, 3]])
    )
    prefixes, branches = batch.branches.readings
    assert prefixes.queries.tolist() == [[0, 1, 2], [5, 5, 5]] and prefixes.seen is None
    assert branches.keys.tolist() == [[0, 1, 2, 3], [0, 1, 2, 4], [5, 5, 5, 6], [5, 5, 5, 7]]
    assert branches.seen is not None
    assert branches.seen.int()[:, 0, 0].tolist() == [[1, 1, 1, 1]] * 2 + [[1, 0, 0, 1]] * 2


def test_what_a_token_is_predicted_from():
    batch = pack_bundles(arrays([1, 2, 5], [1, 2, 3, 4]), Bundles([[1, 0]]))
    # Tokens 1 2 3 4 5; both 3 and 5 come after the 2, at 1.
    ahead = batch.ahead(torch.arange(5)[None])
    assert ahead.tolist() == [[0, 0, 1, 2, 1, 0]] and batch.targets.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert batch.in_place(batch.targets).tolist() == batch.token_ids.tolist()


def test_bundles_worked_by_hand():
    ids = arrays([1] * 8 + [2, 2], [5, 6, 7], [1] * 8 + [3], [1] * 8 + [2, 4], [5, 8, 8])
    # All of the ones: 8 + 2 + 2 + 1 = 13 of 10 + 10 + 9 tokens, 16 are saved. Without the third 9
    # would be: 1^8 2 is shared then. The two that begin with 5 save 1 token for 5.
    assert sorted(map(sorted, find_bundles(ids, 100))) == [[0, 2, 3], [1, 4]]
    # Within 12 tokens there is room for two of the three: 11 of 20 tokens save 9.
    assert sorted(map(sorted, find_bundles(ids, 12))) == [[0, 3], [1, 4], [2]]
    assert sorted(map(sorted, find_bundles(ids, 4))) == [[0], [1], [2], [3], [4]]
    few = arrays([1, *range(10, 14)], [1, *range(20, 24)])  # one of 9 is not one of 8
    assert WORTH == 8 and find_bundles(few, 100) == [[0], [1]]
    assert find_bundles(arrays([1, *range(10, 13)], [1, *range(20, 24)]), 100) == [[0, 1]]
    assert find_bundles([], 100) == []


def test_micro_batches_worked_by_hand():
    prompt = [1, 2, 3, 4]
    ids = arrays(*([*prompt, i] for i in range(5, 9)), [9] * 5, [8] * 2)
    # Four siblings are 4 + 4 = 8 tokens; a budget of 7 has room for three. The one that is left is
    # with what shares nothing (two rows of 5 are 10).
    first, *rest = shared_micro_batches(ids, 7, 1, packing=False)[0]
    assert first == [[1, 2, 3]] and isinstance(first, Bundles)
    assert rest == [[[0]], [[4]], [[5]]] and not isinstance(rest[0], Bundles)
    two = shared_micro_batches(ids, 8, 2, packing=True)
    assert two == [[[[0, 1, 2, 3]], [[5]]], [[[4]], []]]


@settings(max_examples=40)
@given(groups(), st.integers(1, 40), st.integers(1, 3), st.booleans())
def test_every_sequence_is_read_once_within_the_budget(made, budget, ranks, packing):
    ids, _ = made
    by_rank = shared_micro_batches(ids, budget, ranks, packing=packing)
    assert len(by_rank) == ranks and len({len(parts) for parts in by_rank}) == 1
    parts = [rows for rows_of in by_rank for rows in rows_of]
    assert sorted(chain(*chain(*parts))) == list(range(len(ids)))
    for rows in parts:
        if isinstance(rows, Bundles):
            assert all(len(row) > 1 for row in rows)
            batch = pack_bundles(ids, rows)
            assert batch.token_ids.numel() <= budget
            assert batch.saved * WORTH >= batch.token_ids.numel()


@settings(max_examples=20)
@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60), st.integers(1, 3))
def test_what_shares_nothing_is_cut_as_without(lengths, budget, ranks):
    ids = [np.full(length, number) for number, length in enumerate(lengths)]
    plain = micro_batches(lengths, budget, ranks, packing=True)
    assert shared_micro_batches(ids, budget, ranks, packing=True) == plain


@settings(max_examples=40)
@given(groups(), st.data())
def test_a_token_sees_its_sequence_up_to_itself_and_nothing_else(made, data):
    ids, by_prompt = made
    together = Bundles([data.draw(st.permutations(range(len(ids))))])
    rows = data.draw(st.sampled_from([by_prompt, together]))
    batch = pack_bundles(ids, rows)
    seen = {}
    places: Any = batch.places
    for reading in batch.branches.readings:
        count, width = reading.queries.shape
        mask = reading.seen if reading.seen is not None else torch.ones(width, width).tril().bool()
        mask = mask.expand(count, 1, -1, -1)
        assert mask.any(-1).all()  # no softmax of nothing, in the padding either
        for queries, keys, own in zip(reading.queries, reading.keys, mask[:, 0], strict=True):
            seen |= {
                len(seen) + i: (q.item(), keys[row].tolist())
                for i, (q, row) in enumerate(zip(queries, own, strict=True))
            }
    for number, position in enumerate(chain(*rows)):
        length = len(ids[position])
        path = batch.index[number, :length].tolist()
        assert batch.token_ids[0, path].tolist() == ids[position].tolist()
        assert places[0, path].tolist() == list(range(length))
        assert batch.before[path[1:]].tolist() == path[:-1]
        for i, token in enumerate(path):
            assert seen[batch.branches.back[token].item()] == (token, path[: i + 1])


def test_padding_at_most_doubles_the_scores():
    # Branches of 512, 256 and 8 tokens behind a prefix of 4: the two long ones are read together,
    # 2 x 512 x 516 scores for 512 x 516 + 256 x 260; with the short one it would be 3 x 512 x 516.
    prefix = [1, 2, 3, 4]
    ids = arrays(*([*prefix, *[i] * n] for i, n in ((5, 512), (6, 256), (7, 8))))
    readings = pack_bundles(ids, Bundles([[0, 1, 2]])).branches.readings
    assert [tuple(r.queries.shape) for r in readings] == [(1, 4), (2, 512), (1, 8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_is_made_once(dtype):
    reading = pack_bundles(arrays([1, 2], [1, 3]), Bundles([[0, 1]])).branches.readings[1]
    mask = reading.mask(dtype)
    assert mask is not None and mask.dtype == dtype and mask.tolist() == [[[[0.0, 0.0]]]]
    assert reading.mask(dtype) is mask


@pytest.mark.parametrize(
    ("prefix", "branch", "branches"), [(2000, 20, 16), (400, 4, 256), (50, 50, 8)]
)
def test_keys_are_gathered_within_the_budget(prefix: int, branch: int, branches: int) -> None:
    """Sixteen branches of 20 tokens behind 2,000 gather 34,320 keys for 2,320 tokens: without the
    bound 15 times what the budget is to hold."""
    rng = np.random.default_rng(0)
    shared = rng.integers(3, 9, prefix)
    ids = [
        np.r_[shared, [10 + i], rng.integers(3, 9, branch - 1)].astype(np.int32)
        for i in range(branches)
    ]
    budget = prefix + branches * branch
    found = shared_micro_batches(ids, budget, 1, packing=True)[0]
    assert sorted(i for rows in found for row in rows for i in row) == list(range(branches))
    for rows in found:
        if isinstance(rows, Bundles):
            keys = sum(
                reading.keys.numel() for reading in pack_bundles(ids, rows).branches.readings
            )
            assert keys <= 2 * MOST_KEYS * budget  # padded at most twofold
    if prefix == 50:  # an ordinary group is one bundle, as ever
        assert len(found) == 1 and len(found[0]) == 1
