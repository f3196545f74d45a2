"""What published protocols say of a model that scores, by hand and by trying everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.measuring.aggregate import FirstErrorAccuracy, first_below, first_error_accuracy
from rlstep.measuring.protocols import beats_all, best_threshold, f1_error

# --- ProcessBench --------------------------------------------------------------------------------

SCORES = [[0.9, 0.8, 0.2], [0.9, 0.6], [0.7, 0.65], [0.95, 0.3, 0.9]]
LABELS = [2, None, None, 1]


def f1_at(threshold: float, scores, labels) -> float:
    found = [first_below(chain, threshold) for chain in scores]
    return first_error_accuracy(found, labels).f1


def test_a_threshold_worked_by_hand():
    # Right are: chain 0 for 0.2 < t <= 0.8, chain 1 for t <= 0.6, chain 2 for t <= 0.65, chain 3
    # for 0.3 < t <= 0.95. All four for 0.3 < t <= 0.6, whose middle is 0.45.
    assert best_threshold(SCORES, LABELS) == pytest.approx(0.45)
    assert f1_at(0.45, SCORES, LABELS) == 1.0
    # At 0.25 chain 3's error is missed: 1/2 and 2/2, F1 = 2 (1/2) / (3/2) = 2/3.
    assert f1_at(0.25, SCORES, LABELS) == pytest.approx(2 / 3)


def test_of_equal_thresholds_the_nearest_to_one_half():
    # An error at 0.1 and no error at 0.9: every t in (0.1, 0.9] is right, the middle is 1/2.
    assert best_threshold([[0.1], [0.9]], [0, None]) == pytest.approx(0.5)
    # Constant scores find nothing and lose nothing at once: F1 is 0 whatever the threshold.
    assert f1_at(best_threshold([[0.5], [0.5]], [0, None]), [[0.5], [0.5]], [0, None]) == 0.0


def test_a_step_after_the_error_changes_nothing():
    worse = [[*chain[: label + 1], 0.0] if label is not None else chain
             for chain, label in zip(SCORES, LABELS, strict=True)]  # fmt: skip
    assert best_threshold(worse, LABELS) == best_threshold(SCORES, LABELS)


TENTHS = st.integers(0, 10).map(lambda n: n / 10)


@st.composite
def chains(draw):
    scores = draw(st.lists(st.lists(TENTHS, min_size=1, max_size=4), min_size=2, max_size=8))
    labels = [draw(st.none() | st.integers(0, len(chain) - 1)) for chain in scores]
    labels[0], labels[1] = None, len(scores[1]) - 1
    return scores, labels


@given(chains())
def test_no_threshold_is_better(given_chains):
    scores, labels = given_chains
    chosen = f1_at(best_threshold(scores, labels), scores, labels)
    # Between tenths nothing changes, so these are all there are.
    assert chosen == pytest.approx(max(f1_at(n / 20, scores, labels) for n in range(22)))


def test_the_error_of_an_f1():
    # a = 0.5 of 4 and b = 1 of 9: dF/da = 2 / 2.25, Var a = 0.25 / 4, Var b = 0;
    # 0.8889 sqrt(0.0625) = 0.2222.
    found = FirstErrorAccuracy(erroneous=0.5, correct=1.0)
    assert f1_error(found, 4, 9) == pytest.approx(2 / 9)
    assert f1_error(FirstErrorAccuracy(erroneous=0.0, correct=0.0), 4, 9) == 0.0


def test_the_error_of_an_f1_is_that_of_many_draws():
    rng = np.random.default_rng(0)
    a, b = rng.binomial(400, 0.6, 20000) / 400, rng.binomial(300, 0.8, 20000) / 300
    found = FirstErrorAccuracy(erroneous=0.6, correct=0.8)
    assert f1_error(found, 400, 300) == pytest.approx((2 * a * b / (a + b)).std(), rel=0.03)


# --- RMB -----------------------------------------------------------------------------------------


def test_the_best_must_beat_every_loser():
    assert beats_all(0.7, [0.2, 0.69]) and beats_all(-1.0, [-2.0])
    assert not beats_all(0.7, [0.2, 0.71])
    assert not beats_all(0.7, [0.7])  # a tie is wrong
    assert not beats_all(0.1 + 0.2, [0.3])  # equal but for rounding
    with pytest.raises(AssertionError, match="nothing to beat"):
        beats_all(0.7, [])


@given(st.floats(-9, 9), st.lists(st.floats(-9, 9), min_size=1, max_size=5))
def test_best_of_n_is_every_pair_at_once(best: float, others: list[float]):
    pairs = [beats_all(best, [other]) for other in others]
    assert beats_all(best, others) <= all(pairs)  # a wider range has a wider rounding
    assert not (beats_all(best, others) and any(beats_all(o, [best]) for o in others))
