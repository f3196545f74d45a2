from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.analysis.log_partition import LogPartition, log_mean_exp

numbers = st.lists(st.floats(-50, 50), min_size=1, max_size=8)


def visit_all(visits: list[list[float]], gamma: float) -> float:
    estimate = LogPartition(gamma=gamma)
    for each in visits:
        estimate = estimate.visited(each)
    assert estimate.log_u is not None
    return estimate.log_u


def test_three_visits_by_hand():
    # Means of the weights: (1 + 3)/2 = 2, 6, 1. u = 2, then 3/4 2 + 1/4 6 = 3, then
    # 3/4 3 + 1/4 1 = 2.5.
    visits = [[0.0, math.log(3)], [math.log(6)], [0.0, 0.0]]
    assert visit_all(visits[:1], 0.25) == pytest.approx(math.log(2.0))
    assert visit_all(visits[:2], 0.25) == pytest.approx(math.log(3.0))
    assert visit_all(visits, 0.25) == pytest.approx(math.log(2.5))
    assert visit_all(visits, 1.0) == pytest.approx(0.0)  # the last visit alone


@settings(max_examples=30)
@given(st.lists(numbers, min_size=1, max_size=5), st.floats(0.01, 1.0), st.floats(-2000, 2000))
def test_a_shift_of_f_is_a_shift_of_log_z_however_large(
    visits: list[list[float]], gamma: float, shift: float
):
    shifted = [[weight + shift for weight in each] for each in visits]
    assert visit_all(shifted, gamma) == pytest.approx(visit_all(visits, gamma) + shift, abs=1e-9)


@settings(max_examples=30)
@given(numbers, st.floats(0.01, 1.0), st.integers(1, 5))
def test_equal_visits_change_nothing(weights: list[float], gamma: float, visits: int):
    assert visit_all([weights] * visits, gamma) == pytest.approx(log_mean_exp(weights), abs=1e-9)


def test_many_samples_of_one_visit_are_the_exact_constant():
    # Of exp(2 r), r = 1 with p = 0.3: Z = 0.7 + 0.3 e^2 = 2.916717. Standard error of the mean of
    # 200,000 weights, relative to Z: sqrt(0.21) (e^2 - 1) / (2.916717 sqrt(200,000)) = 0.0022.
    right = np.random.default_rng(0).random(200_000) < 0.3
    exact = math.log(0.7 + 0.3 * math.exp(2.0))
    assert LogPartition().visited(2.0 * right).log_u == pytest.approx(exact, abs=4 * 0.0022)


def test_averaging_logarithms_keeps_the_bias_and_the_running_mean_does_not():
    # One sample a visit, p = 0.3, eta = 2: the plain estimate is 2 r, of mean 0.6; log Z is 1.0705.
    right = np.random.default_rng(1).random((4000, 64)) < 0.3
    plain = np.mean(2.0 * right)
    running = np.mean([visit_all([[2.0 * r] for r in row], 0.05) for row in right[:200]])
    assert plain == pytest.approx(0.6, abs=0.01)
    # -gamma/(2 - gamma) Var(w)/(2 Z^2) = -0.0256 * 0.21 * 6.389^2 / (2 * 2.9167^2) = -0.0129
    assert running == pytest.approx(1.0705 - 0.0129, abs=0.03)


def test_with_the_true_constant_the_gradient_is_exact_on_average():
    # q = (1/2, 1/2), f = (0, t) with t = log 3: Z = 1 + e^t = 4, and d log Z / dt = e^t / Z = 3/4.
    log_weights = np.array([0.0, math.log(3)]) - math.log(0.5)
    known = LogPartition(log_u=math.log(4.0))
    slopes = np.array([0.0, 1.0])  # df/dt of either sample
    single = [known.gradient_weights(log_weights[[i]]) @ slopes[[i]] for i in (0, 1)]
    assert np.mean(single) == pytest.approx(0.75)  # 0 and 3/2
    # The plain estimate divides by its own mean: of one sample it is df itself, 1/2 on average.
    own = [LogPartition().visited(log_weights[[i]]) for i in (0, 1)]
    plain = [own[i].gradient_weights(log_weights[[i]]) @ slopes[[i]] for i in (0, 1)]
    assert np.mean(plain) == pytest.approx(0.5)
    # Of all pairs of samples the known constant is exact as well.
    pairs = [np.array([i, j]) for i in (0, 1) for j in (0, 1)]
    assert np.mean(
        [known.gradient_weights(log_weights[each]) @ slopes[each] for each in pairs]
    ) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogPartition(gamma=0.0), "gamma is 0.0; it must be above 0"),
        (lambda: LogPartition(gamma=1.5), "gamma is 1.5; the largest valid value is 1.0"),
        (lambda: LogPartition().gradient_weights([0.0]), "log_u is None; .* at least 1 visit"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
