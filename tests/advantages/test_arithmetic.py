from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.advantages.arithmetic import (
    centred,
    deviation,
    gae,
    lambda_returns,
    less_others,
    suffix_sums,
)

numbers = st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=40).map(np.array)
unit = st.floats(0.0, 1.0)


def test_suffix_sums_worked_by_hand():
    # From the end: 3, 2 + 3/2 = 3.5, 1 + 3.5/2 = 2.75.
    assert suffix_sums(np.array([1.0, 2.0, 3.0]), 0.5).tolist() == [2.75, 3.5, 3.0]
    assert suffix_sums(np.array([1.0, 2.0, 3.0])).tolist() == [6.0, 5.0, 3.0]
    assert suffix_sums(np.array([1.0, 2.0, 3.0]), 0.0).tolist() == [1.0, 2.0, 3.0]
    assert suffix_sums(np.array([])).tolist() == []


@given(values=numbers, discount=unit)
def test_suffix_sums_obey_their_recursion(values: np.ndarray, discount: float):
    out = suffix_sums(values, discount)
    np.testing.assert_allclose(out[:-1], values[:-1] + discount * out[1:], atol=1e-9)
    assert out[-1] == values[-1]


def test_baselines():
    # Mean 2: (-1, 1). The other's: (1 - 3, 3 - 1).
    assert centred(np.array([1.0, 3.0])).tolist() == [-1.0, 1.0]
    assert less_others(np.array([1.0, 3.0])).tolist() == [-2.0, 2.0]
    # Column by column; one that is equal throughout is exactly 0, although 0.1 * 3 / 3 is not 0.1.
    out = less_others(np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 6.0]]))
    assert out.tolist() == [[0.0, -3.0], [0.0, -1.5], [0.0, 4.5]]
    assert less_others(np.array([5.0])).tolist() == [0.0]
    assert centred(np.array([])).tolist() == [] == less_others(np.array([])).tolist()


def test_deviations():
    values = np.array([1.0, 3.0])
    assert deviation(values, "population") == 1.0
    assert deviation(values, "sample") == pytest.approx(np.sqrt(2))
    assert deviation(values, "none") == 1.0
    assert deviation(np.array([5.0]), "sample") == 1.0 == deviation(np.array([]), "sample")


def test_gae_worked_by_hand():
    # V = (1, 2, 4), r = (0, 1, 3), gamma 1/2: deltas 0 + 1 - 1 = 0, 1 + 2 - 2 = 1, 3 + 0 - 4 = -1.
    # gamma lam = 1/4: A = (0 + 3/4 / 4, 1 - 1/4, -1) = (0.1875, 0.75, -1).
    rewards, values = np.array([0.0, 1.0, 3.0]), np.array([1.0, 2.0, 4.0])
    assert gae(rewards, values, 0.5, 0.5).tolist() == [0.1875, 0.75, -1.0]
    assert lambda_returns(rewards, values, 0.5, 0.5).tolist() == [1.1875, 2.75, 3.0]


@given(rewards=numbers, gamma=unit, seed=st.integers(0, 1000))
def test_the_two_ends_of_lambda(rewards: np.ndarray, gamma: float, seed: int):
    """At lambda 1 the targets are the returns, whatever the values; at 0 one-step targets."""
    values = np.random.default_rng(seed).normal(size=len(rewards))
    targets = lambda_returns(rewards, values, gamma, 1.0)
    np.testing.assert_allclose(targets, suffix_sums(rewards, gamma), atol=1e-9)
    after = np.append(values[1:], 0.0)
    one_step = lambda_returns(rewards, values, gamma, 0.0)
    np.testing.assert_allclose(one_step, rewards + gamma * after, atol=1e-9)


@given(rewards=numbers, gamma=unit, lam=unit)
def test_perfect_values_leave_no_advantage(rewards: np.ndarray, gamma: float, lam: float):
    values = suffix_sums(rewards, gamma)
    np.testing.assert_allclose(gae(rewards, values, gamma, lam), 0.0, atol=1e-9)
