from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.diffusion.canvas import (
    left_to_right,
    masked_copies,
    maskings,
    on_canvas,
    read_canvas,
)
from rlstep.types import AdvantageSamples, LabelSamples, PairSamples
from tests.builders import make_sequence
from tests.diffusion.kit import CANVAS, ids, make_diffusion_model


def test_what_is_behind_an_end_is_known_and_what_is_behind_a_cut_is_not():
    assert on_canvas(ids(2, 3, 1), CANVAS).tolist() == [2, 3, 1, 1, 1, 1]
    assert on_canvas(ids(2, 3), CANVAS).tolist() == [2, 3, 5, 5, 5, 5]
    assert on_canvas(ids(2, 3, 4, 2, 3, 4), CANVAS).tolist() == [2, 3, 4, 2, 3, 4]
    with pytest.raises(ValueError, match="7 tokens, and the model's canvas_length is 6"):
        on_canvas(ids(*range(7)), CANVAS)


@settings(max_examples=30)
@given(
    trained=st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    number=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_maskings_hide_trained_tokens_alone(trained: list[bool], number: int, seed: int):
    mask = np.array(trained)
    sets = maskings(mask, number, np.random.default_rng(seed))
    assert len(sets) == number
    assert all(1 <= hidden.sum() <= mask.sum() and not hidden[~mask].any() for hidden in sets)


def test_sizes_of_one_sequence_are_spread_evenly():
    # Of 4 trained tokens under 4 maskings every size is there once, in whatever order.
    sets = maskings(np.ones(4, bool), 4, np.random.default_rng(0))
    assert sorted(int(hidden.sum()) for hidden in sets) == [1, 2, 3, 4]


@pytest.mark.parametrize("number", [1, 3])
def test_every_size_is_as_likely_and_every_set_of_it(number: int):
    # T = 3: P(l) = 1/3, and 3, 3 and 1 sets: 1/9 each of the six smaller ones, 1/3 of the whole.
    rng, drawn = np.random.default_rng(0), Counter[tuple[bool, ...]]()
    for _ in range(9000 // number):
        drawn.update(tuple(h.tolist()) for h in maskings(np.ones(3, bool), number, rng))
    total = sum(drawn.values())
    for hidden in itertools.product([True, False], repeat=3):
        expected = {0: 0.0, 1: 1 / 9, 2: 1 / 9, 3: 1 / 3}[sum(hidden)]
        share = drawn[hidden] / total
        assert abs(share - expected) <= 5 * math.sqrt(expected / total)


def samples(ends: bool = True) -> AdvantageSamples:
    sequence = make_sequence("a", [2])  # a prompt token and two trained ones
    sequence.token_ids[-1] = CANVAS.end if ends else 3
    return AdvantageSamples(
        sequences=(sequence,), advantages=(np.array([0, 2, 2], np.float32),), groups=1
    )


def test_copies_stand_on_canvases_with_their_advantages():
    made = masked_copies(samples(), CANVAS, 2, np.random.default_rng(0))
    assert isinstance(made, AdvantageSamples) and len(made.sequences) == 2
    for sequence, advantages in zip(made.sequences, made.advantages, strict=True):
        assert sequence.loss_mask.tolist() == [False, True, True, True, True, True]
        assert advantages.tolist() == [0, 2, 2, 2, 2, 2]
        assert sequence.prompt_id == samples().sequences[0].prompt_id
        seen = sequence.canvas  # type: ignore[attr-defined]
        # The weight of each hidden token is trained / hidden, here 5 / l.
        assert seen.weights[seen.hidden] == pytest.approx(5 / seen.hidden.sum())
        assert not seen.weights[~seen.hidden].any() and not seen.hidden[0]
    assert made.sequences[0].sequence_id != made.sequences[1].sequence_id


def test_behind_a_cut_nothing_is_trained_and_all_is_hidden():
    [sequence] = masked_copies(samples(ends=False), CANVAS, 1, np.random.default_rng(0)).sequences
    seen = sequence.canvas  # type: ignore[attr-defined]
    assert sequence.loss_mask.tolist() == [False, True, True, False, False, False]
    assert seen.hidden[3:].all() and not seen.weights[3:].any()
    assert seen.weights.sum() == pytest.approx(2.0)  # trained ones, whatever is hidden


def test_labels_go_along_and_pairs_are_refused():
    sequences, columns = samples().sequences, (np.array([0, 1, 1], np.float32),)
    labels = LabelSamples(sequences=sequences, targets=columns, weights=columns)
    made = masked_copies(labels, CANVAS, 1, np.random.default_rng(0))
    assert isinstance(made, LabelSamples)
    assert made.weights[0].tolist() == made.targets[0].tolist() == [0, 1, 1, 1, 1, 1]
    with pytest.raises(TypeError, match="PairSamples cannot stand on canvases"):
        pairs = PairSamples(sequences=sequences, pairs=(), groups=0)
        masked_copies(pairs, CANVAS, 1, np.random.default_rng(0))


def test_left_to_right_asks_for_one_token_after_the_other():
    first, second = left_to_right(ids(2, 3, 4), CANVAS)
    assert first.hidden.tolist() == [False, True, True, True, True, True]
    assert first.weights.tolist() == [0, 1, 0, 0, 0, 0]
    assert second.hidden.tolist() == [False, False, True, True, True, True]
    assert second.weights.tolist() == [0, 0, 1, 0, 0, 0]


def test_a_folder_says_what_its_canvases_are_like(tmp_path: Path):
    path = make_diffusion_model(tmp_path / "good", canvas=24)
    assert (found := read_canvas(path)).length == 24 and (found.mask, found.end) == (18, 1)
    config = tmp_path / "good" / "config.json"
    config.write_text(config.read_text().replace('"canvas_length": 24', '"canvas_length": 1'))
    with pytest.raises(ValueError, match="canvas_length 1; it is the number of tokens"):
        read_canvas(path)
