from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstep.interfaces import AdvantageBatch, LabelBatch, PairBatch
from rlstep.tensors.batching import collate, count, micro_batches, mini_batches, pack
from rlstep.types import AdvantageSamples, LabelSamples, Pair, PairSamples, Sequence
from tests.builders import make_sequence, zero_logprobs


def two_sequences() -> tuple[Sequence, Sequence]:
    """Steps of 2 and 1 tokens, the second masked; and one step of one token."""
    return (
        make_sequence("a", [2, 1], scores=[0.5, 0.25], masked_steps=[1]),
        make_sequence("b", [1], scores=[0.75]),
    )


def pair(chosen: int, rejected: int) -> Pair:
    return Pair(
        chosen=chosen,
        rejected=rejected,
        shared_prefix=1,
        chosen_score=1.0,
        rejected_score=0.0,
        provenance="outcome",
    )


def label_samples(sequences: tuple[Sequence, ...], weight: float = 1.0) -> LabelSamples:
    columns = tuple(np.full(len(s.token_ids), weight, dtype=np.float32) for s in sequences)
    return LabelSamples(sequences=sequences, targets=columns, weights=columns)


def test_collate_pads_on_the_right():
    samples = PairSamples(sequences=two_sequences(), pairs=(pair(1, 0),), groups=1)
    old = [np.array(row, dtype=np.float32) for row in ([0, -1, -2, -3], [0, -4])]
    ref = [np.array(row, dtype=np.float32) for row in ([0, -5, -6, -7], [0, -8])]
    batch = collate(samples, old, ref)
    assert isinstance(batch, PairBatch)
    assert batch.token_ids.tolist() == [[1, 2, 3, 4], [1, 2, 0, 0]]
    assert batch.lengths.tolist() == [4, 2]
    assert batch.loss_mask.tolist() == [[False, True, True, False], [False, True, False, False]]
    assert batch.step_index.tolist() == [[-1, 0, 0, 1], [-1, 0, -1, -1]]
    assert batch.old_logprobs.tolist() == [[0, -1, -2, -3], [0, -4, 0, 0]]
    assert batch.ref_logprobs.tolist() == [[0, -5, -6, -7], [0, -8, 0, 0]]
    assert batch.step_scores.tolist() == [[0.5, 0.25], [0.75, 0.0]]
    assert batch.step_mask.tolist() == [[True, True], [True, False]]
    assert (batch.chosen.tolist(), batch.rejected.tolist()) == ([1], [0])
    assert batch.token_ids.dtype == torch.int64 and batch.old_logprobs.dtype == torch.float32


def test_collate_advantages_and_labels():
    sequences = two_sequences()
    columns = tuple(np.array(row, dtype=np.float32) for row in ([0, 1, 2, 0], [0, 3]))
    samples = AdvantageSamples(sequences=sequences, advantages=columns, groups=1)
    batch = collate(samples, zero_logprobs(samples), zero_logprobs(samples))
    assert isinstance(batch, AdvantageBatch)
    assert batch.advantages.tolist() == [[0, 1, 2, 0], [0, 3, 0, 0]]
    labels = LabelSamples(sequences=sequences, targets=columns, weights=columns)
    labelled = collate(labels, zero_logprobs(labels), zero_logprobs(labels))
    assert isinstance(labelled, LabelBatch)
    assert labelled.targets.tolist() == labelled.weights.tolist() == batch.advantages.tolist()


def test_records_that_came_through_ray_are_read_only():
    samples = PairSamples(sequences=two_sequences(), pairs=(), groups=0)
    rows = zero_logprobs(samples)
    for array in [*rows, *(s.token_ids for s in samples.sequences)]:
        array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collate(samples, rows, rows).token_ids.shape == (2, 4)


def test_other_records_are_refused():
    with pytest.raises(TypeError, match="str is no kind of samples"):
        collate("samples", [], [])  # type: ignore[arg-type]


def test_counts_are_of_trained_tokens_only():
    sequences = two_sequences()
    # Trained: 2 tokens of a, 1 of b.
    pairs = PairSamples(sequences=sequences, pairs=(pair(1, 0), pair(0, 1)), groups=1)
    counts = count(pairs)
    assert (counts.sequences, counts.tokens, counts.pairs, counts.weight) == (2, 3, 2, 0.0)
    untrained = make_sequence("c", [2], masked_steps=[0])
    assert count(replace(pairs, sequences=(*sequences, untrained))).sequences == 2
    labels = count(label_samples(sequences, weight=1.5))
    assert (labels.tokens, labels.pairs, labels.weight) == (3, 0, 4.5)


def test_rows_of_a_batch():
    samples = label_samples(two_sequences())
    batch = collate(samples, zero_logprobs(samples), zero_logprobs(samples))
    part = batch.rows(torch.tensor([1]))
    assert isinstance(part, LabelBatch)
    assert part.token_ids.tolist() == [[1, 2, 0, 0]] and part.step_scores.tolist() == [[0.75, 0.0]]
    pairs = PairSamples(sequences=two_sequences(), pairs=(pair(1, 0),), groups=1)
    with pytest.raises(TypeError, match="whole mini-batch"):
        collate(pairs, zero_logprobs(pairs), zero_logprobs(pairs)).rows(torch.tensor([0]))


def test_mini_batches_keep_prompts_and_pairs_together():
    # Prompts p (sequences 0, 1, 3), q (2) and r (4, 5): halves are (p, q) and (r).
    prompt_ids = ["p", "p", "q", "p", "r", "r"]
    sequences = tuple(make_sequence(f"{i}", [1], prompt_id=p) for i, p in enumerate(prompt_ids))
    samples = PairSamples(sequences=sequences, pairs=(pair(5, 4), pair(3, 0), pair(1, 0)), groups=2)
    first, second = mini_batches(samples, 2)
    assert isinstance(first, PairSamples) and isinstance(second, PairSamples)
    assert [s.sequence_id for s in first.sequences] == ["0", "1", "2", "3"]
    assert [(p.chosen, p.rejected) for p in first.pairs] == [(3, 0), (1, 0)]
    assert [s.sequence_id for s in second.sequences] == ["4", "5"]
    assert [(p.chosen, p.rejected) for p in second.pairs] == [(1, 0)]


def test_mini_batches_carry_the_columns_along():
    sequences = tuple(make_sequence(f"{i}", [1], prompt_id=f"{i}") for i in range(3))
    columns = tuple(np.full(2, i, dtype=np.float32) for i in range(3))
    samples = AdvantageSamples(sequences=sequences, advantages=columns, groups=3)
    parts = mini_batches(samples, 5)  # more than there are prompts: no empty mini-batch
    assert [p.advantages[0][0] for p in parts if isinstance(p, AdvantageSamples)] == [0, 1, 2]
    labels = label_samples(sequences)
    labels = replace(labels, weights=columns)
    halves = mini_batches(labels, 2)
    assert [len(h.sequences) for h in halves] == [2, 1]
    assert [w[0] for h in halves if isinstance(h, LabelSamples) for w in h.weights] == [0, 1, 2]
    assert mini_batches(replace(labels, sequences=(), targets=(), weights=()), 4) == []


def test_micro_batches_worked_by_hand():
    # Longest first: 5 | 4, 4 | 2, 1 fit a budget of 8 padded tokens as 5 (6 would be 10), 4 + 4,
    # 2 + 1; two ranks take turns and the second gets an empty one.
    assert micro_batches([4, 1, 5, 2, 4], 8, 2, packing=False) == [
        [[[2]], [[3], [1]]],
        [[[0], [4]], []],
    ]


def test_packed_rows_worked_by_hand():
    # Width 6: 6 | 4 + 2 | 4 + 1 + 1; no row left for the last 4, which begins the next micro-batch.
    lengths = [1, 4, 6, 2, 4, 1, 4]
    assert micro_batches(lengths, 18, 1, packing=True) == [[[[2], [1, 3], [4, 0, 5]], [[6]]]]
    # Without: 6 | 4 | 4, then 4 | 2 | 1 | 1.
    assert micro_batches(lengths, 18, 1, packing=False) == [[[[2], [1], [4]], [[6], [3], [0], [5]]]]


def test_a_packed_batch_worked_by_hand():
    ids = [np.array([7, 8], np.int32), np.array([1, 2, 3, 4], np.int32), np.array([9], np.int32)]
    batch = pack(ids, [[1], [0, 2]])
    assert batch.token_ids.tolist() == [[1, 2, 3, 4], [7, 8, 9, 0]]
    assert batch.places is not None
    assert batch.places.tolist() == [[0, 1, 2, 3], [0, 1, 0, 1]]
    assert pack(ids, [[1], [0]]).places is None
    unpacked = batch.unpack(batch.token_ids)  # in the rows' order: 1, 0, 2
    assert unpacked[0].tolist() == [1, 2, 3, 4]
    assert unpacked[1, :2].tolist() == [7, 8] and unpacked[2, :1].tolist() == [9]
    assert batch.unpack(torch.arange(16).reshape(2, 4, 2))[1, 1].tolist() == [10, 11]
    assert pack(ids, []).token_ids.tolist() == [[0]]


@given(
    lengths=st.lists(st.integers(1, 30), max_size=20),
    budget=st.integers(1, 60),
    ranks=st.integers(1, 4),
    packing=st.booleans(),
)
def test_micro_batches_hold_every_sequence_once_within_the_budget(lengths, budget, ranks, packing):
    by_rank = micro_batches(lengths, budget, ranks, packing=packing)
    assert len(by_rank) == ranks and len({len(batches) for batches in by_rank}) == 1
    every = [rows for batches in by_rank for rows in batches]
    assert sorted(i for rows in every for row in rows for i in row) == list(range(len(lengths)))
    for rows in every:
        width = max((sum(lengths[i] for i in row) for row in rows), default=0)
        assert width == max((lengths[row[0]] for row in rows), default=0)
        assert width * len(rows) <= budget or len(rows) == 1
        assert packing or all(len(row) == 1 for row in rows)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20), budget=st.integers(1, 200))
def test_what_is_packed_comes_out_as_it_went_in(lengths, budget):
    ids = [np.random.default_rng(i).integers(1, 99, n) for i, n in enumerate(lengths)]
    for rows in micro_batches(lengths, budget, 1, packing=True)[0]:
        batch = pack(ids, rows)
        positions = [i for row in rows for i in row]
        along = torch.arange(batch.token_ids.shape[1]).expand_as(batch.token_ids)
        all_places = along if batch.places is None else batch.places
        for tokens, places, i in zip(
            batch.unpack(batch.token_ids), batch.unpack(all_places), positions, strict=True
        ):
            assert tokens[: lengths[i]].tolist() == ids[i].tolist()
            assert places[: lengths[i]].tolist() == list(range(lengths[i]))


@pytest.mark.parametrize("packing", [True, False])
def test_a_budget_without_an_end_is_one_micro_batch_at_once(packing: bool):
    """Its rows were counted to the end of the budget: of 2^40 tokens for minutes."""
    [[rows]] = micro_batches([3, 5, 4], 1 << 62, 1, packing=packing)
    assert rows == [[1], [2], [0]]
