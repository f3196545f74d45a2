from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.analysis.information import (
    differential_information,
    entropy,
    information_figures,
)
from rlstep.types import Sequence
from tests.builders import make_sequence


def of_ids(token_ids: list[int], mask: list[bool]) -> Sequence:
    made = make_sequence("a", [len(mask)], prompt_length=0)
    return replace(made, token_ids=np.array(token_ids, np.int32), loss_mask=np.array(mask))


ratios = st.lists(st.floats(-700, 700), min_size=1, max_size=8)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_policy_that_is_its_reference_has_uniform_information(n: int):
    q = differential_information(np.zeros(n))
    assert q == pytest.approx(np.full(n, 1 / n)) and entropy(q) == pytest.approx(math.log(n))


def test_two_answers_by_hand():
    # Ratios 0.5/0.25 = 2 and 0.5/0.75 = 2/3: q = (2, 2/3) / (8/3) = (3/4, 1/4).
    q = differential_information(np.log([0.5, 0.5]) - np.log([0.25, 0.75]))
    assert q == pytest.approx([0.75, 0.25])
    # -3/4 log 3/4 - 1/4 log 1/4
    assert entropy(q) == pytest.approx(0.562335, abs=1e-6)


@settings(max_examples=40)
@given(ratios, st.floats(-700, 700))
def test_a_common_shift_changes_nothing_and_order_does_not_count(each: list[float], shift: float):
    q = differential_information(each)
    assert differential_information(np.array(each) + shift) == pytest.approx(q, abs=1e-9)
    assert differential_information(each[::-1]) == pytest.approx(q[::-1], abs=1e-12)
    assert q.sum() == pytest.approx(1.0)
    assert -1e-12 <= entropy(q) <= math.log(len(each)) + 1e-12


def test_nothing_of_all_on_one():
    assert entropy([1.0, 0.0]) == 0.0


def test_contexts_and_equal_answers():
    # Of context 1 2 the answers 7 and 8, twice 7; of context 1 3 one answer; of 1 4 two alike.
    rows = [[1, 2, 7], [1, 2, 8], [1, 2, 7], [1, 3, 7], [1, 4, 5], [1, 4, 6]]
    sequences = [of_ids(row, [False, False, True]) for row in rows]
    told = information_figures(sequences, [math.log(3), 0.0, math.log(3), 9.0, 1.0, 1.0])
    # q = (3/4, 1/4) and (1/2, 1/2): entropies 0.562335 and log 2 = 0.693147.
    assert told["information/entropy"] == pytest.approx((0.562335 + 0.693147) / 2, abs=1e-6)
    assert told["information/entropy_share"] == pytest.approx(
        (0.562335 / 0.693147 + 1) / 2, abs=1e-5
    )


def test_what_follows_the_trained_step_is_no_other_answer():
    both = [of_ids([1, 7, after], [False, True, False]) for after in (8, 9)]
    assert information_figures(both, [0.0, 0.0]) == {}
    assert information_figures([], []) == {}
