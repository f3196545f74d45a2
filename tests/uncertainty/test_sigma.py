from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.types import Failure
from rlstep.uncertainty.sigma import beta_sigma, log_of, step_sigma
from tests.builders import make_counts, make_rollout, make_step_scores, make_token_scores


def test_the_posterior_of_counts_worked_by_hand():
    # Beta(a, b) has the variance ab / ((a + b)^2 (a + b + 1)).
    # k = 3 of n = 4: Beta(4, 2), 8 / (36 * 7) = 0.031746; nothing drawn: Beta(1, 1), 1 / 12.
    got = beta_sigma(np.array([4, 0]), np.array([3, 0]))
    assert got.tolist() == pytest.approx([0.031746**0.5, 12**-0.5], rel=1e-5)


def test_unanimous_draws_are_not_certain():
    assert (beta_sigma(np.array([1, 8, 1000]), np.array([1, 8, 1000])) > 0.0).all()


@given(n=st.integers(0, 200), k=st.integers(0, 200))
def test_right_and_wrong_are_alike_and_four_times_the_draws_are_surer(n: int, k: int):
    k = min(n, k)
    sigma = beta_sigma(np.array([n, n, 4 * n + 4]), np.array([k, n - k, 4 * k + 2]))
    assert sigma[0] == pytest.approx(sigma[1])
    assert sigma[2] < sigma[0] <= 12**-0.5 + 1e-12


def test_log_sigma_comes_before_counts():
    rollout = make_rollout(
        "r",
        [[11], [12]],
        scores={
            "urm": make_step_scores([0.5, 0.5], [0.25, 2.0]),
            "mc": make_counts([4, 4], [3, 1]),
        },
    )
    assert step_sigma(rollout, "urm") == pytest.approx([0.25, 2.0])
    assert step_sigma(rollout, "mc") == pytest.approx([0.031746**0.5] * 2, rel=1e-5)


def test_what_failed_or_is_incomplete_has_none():
    scores = {"failed": Failure(reason="timeout"), "mc": make_counts([4, 0], [3, 0])}
    rollout = make_rollout("r", [[11], [12]], scores=scores)
    assert [step_sigma(rollout, name) for name in ("failed", "mc", "absent")] == [None] * 3


@pytest.mark.parametrize("score", [make_step_scores([0.5]), make_token_scores([0.5])])
def test_scores_that_do_not_say_are_a_mistake(score):
    rollout = make_rollout("r", [[11]], scores={"prm": score})
    with pytest.raises(TypeError, match=r"of 'prm' do not say how sure they are"):
        step_sigma(rollout, "prm")


def test_no_uncertainty_is_minus_infinity():
    with np.errstate(all="raise"):
        assert log_of(np.array([0.0, 1.0])).tolist() == [-np.inf, 0.0]
