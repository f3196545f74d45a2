from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.measuring.paired import Flipped, flipped, interval_and_p, paired_bootstrap


def test_every_resample_of_two_problems_worked_by_hand():
    # Differences 1 and 0, mean 1/2. The four resamples have means 1, 1/2, 1/2, 0. From 1/2 they are
    # 1/2, 0, 0, 1/2 away, two of them as far as 1/2 is from 0: p = (1 + 2) / (1 + 4).
    changes = np.array([1.0, 0.0])
    means = np.array([changes[list(drawn)].mean() for drawn in product(range(2), repeat=2)])
    low, high, p_value = interval_and_p(0.5, means)
    # In order 0, 1/2, 1/2, 1: the 2.5 % quantile is at 0.025 * 3 = 0.075 between the first two.
    assert low == pytest.approx(0.075 * 0.5) and high == pytest.approx(1 - 0.075 * 0.5)
    assert p_value == pytest.approx(3 / 5)


def test_means_are_of_both_and_the_difference_of_the_second():
    found = paired_bootstrap([1, 0, 0, 1], [1, 1, 0, 1])
    assert (found.first, found.second, found.value, found.problems) == (0.5, 0.75, 0.25, 4)
    assert found.low <= found.value <= found.high


def test_equal_models_do_not_differ():
    found = paired_bootstrap([1, 0, 1], [1, 0, 1])
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_large_difference_has_the_smallest_p_value():
    """The observed one counts as a resample, so that none is 0."""
    found = paired_bootstrap(np.zeros(100), np.r_[np.ones(60), np.zeros(40)], resamples=999)
    assert found.p_value == pytest.approx(1 / 1000)
    # The standard error of a share of 0.6 of 100 is 0.049: an interval of 1.96 of these each way.
    assert found.low == pytest.approx(0.6 - 1.96 * 0.049, abs=0.02)
    assert found.high == pytest.approx(0.6 + 1.96 * 0.049, abs=0.02)


def test_pairs_are_kept_together():
    """Problems that are hard for both widen no interval."""
    easy, hard = np.ones(50), np.zeros(50)
    first = np.r_[easy, hard]
    second = first.copy()
    second[-2:] = 1.0
    found = paired_bootstrap(first, second)
    assert found.high - found.low < 0.08  # two unpaired shares of 100 would have 0.27


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_the_other_way_round(rows: list[tuple[bool, bool]]):
    one, other = np.array(rows, dtype=float).T
    there = paired_bootstrap(one, other, resamples=200)
    back = paired_bootstrap(other, one, resamples=200)
    assert back.value == -there.value and back.p_value == there.p_value
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_blocks_change_no_draw(monkeypatch: pytest.MonkeyPatch):
    one, other = np.zeros(7), np.array([1, 0, 1, 0, 0, 1, 0])
    whole = paired_bootstrap(one, other, resamples=100)
    monkeypatch.setattr("rlstep.measuring.paired._BLOCK", 21)
    assert paired_bootstrap(one, other, resamples=100) == whole


def test_nothing_in_common():
    with pytest.raises(ValueError, match="no problem that both have"):
        paired_bootstrap([], [])


def test_flipped_problems():
    found = flipped(["a", "b", "c", "d"], [0, 1, 1, 0.49], [1, 0, 1, 0.5])
    assert found == Flipped(better=["a", "d"], worse=["b"])
