from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.measuring.aggregate import (
    FirstErrorAccuracy,
    best,
    best_of_n,
    chain_score,
    first_below,
    first_error_accuracy,
    weighted_vote,
)

PROBABILITIES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=6)


# --- one score of a chain ------------------------------------------------------------------------


def test_chain_scores_worked_by_hand():
    # 0.5, 0.25, 1: the product is 0.125, the mean 1.75 / 3.
    scores = [0.5, 0.25, 1.0]
    assert chain_score(scores, "min") == 0.25
    assert chain_score(scores, "product") == 0.125
    assert chain_score(scores, "last") == 1.0
    assert chain_score(scores, "mean") == pytest.approx(1.75 / 3)


@given(PROBABILITIES)
def test_laws_of_chain_scores(scores: list[float]):
    product, lowest = chain_score(scores, "product"), chain_score(scores, "min")
    assert product <= lowest <= chain_score(scores, "mean") <= max(scores)
    # A step that is surely right changes neither minimum nor product.
    assert chain_score([*scores, 1.0], "min") == lowest
    assert chain_score([*scores, 1.0], "product") == product
    # With one step they are all that step.
    assert len({chain_score(scores[:1], how) for how in ("min", "product", "last", "mean")}) == 1


def test_a_product_is_taken_in_float64():
    # In float32 0.5^200 is 0.
    assert chain_score(np.full(200, 0.5, np.float32), "product") == 0.5**200


def test_a_chain_without_a_step_has_no_score():
    with pytest.raises(AssertionError, match="at least one step"):
        chain_score([], "min")


# --- the best, and a vote ------------------------------------------------------------------------


def test_ties_go_to_the_lowest_index():
    assert best([0.5, 0.9, 0.9, 0.1]) == 1
    assert best([0.0]) == 0


@pytest.mark.parametrize("scores", [[], [0.5, float("nan")], [float("inf")]])
def test_what_cannot_be_ordered_is_refused(scores: list[float]):
    with pytest.raises(ValueError, match="at least one, and all finite"):
        best(scores)


def test_weighted_vote_worked_by_hand():
    # '7' has 0.4 + 0.4 = 0.8, '9' 0.7: the sum outvotes the single best chain.
    assert weighted_vote(["9", "7", "7"], [0.7, 0.4, 0.4]) == "7"
    # 0.5 each: the answer that comes first.
    assert weighted_vote(["3", "4", "4"], [0.5, 0.25, 0.25]) == "3"
    # At scores of 1 it is the majority vote.
    assert weighted_vote(["a", "b", "b"], [1, 1, 1]) == "b"


@given(st.permutations([("x", 0.1), ("x", 0.2), ("x", 0.3), ("y", 0.6000000000000002)]))
def test_the_order_of_the_chains_does_not_change_a_vote(rows):
    # 0.1 + 0.2 + 0.3 is 0.6000000000000001 in one order of adding, and 0.6 in the other.
    assert weighted_vote([a for a, _ in rows], [s for _, s in rows]) == "y"


# --- best of N -----------------------------------------------------------------------------------


def test_best_of_n_worked_by_hand():
    # Scores 1, 2, 3, 4 with outcomes 1, 0, 1, 0. Of the six pairs, the higher one is
    # 2 (once), 3 (twice), 4 (three times): (1 * 0 + 2 * 1 + 3 * 0) / 6.
    assert best_of_n([1, 2, 3, 4], [1, 0, 1, 0], 2) == pytest.approx(2 / 6)
    # One draw: the mean outcome. All four: the outcome of the best.
    assert best_of_n([1, 2, 3, 4], [1, 0, 1, 0], 1) == 0.5
    assert best_of_n([1, 2, 3, 4], [1, 0, 1, 0], 4) == 0.0


def test_outcomes_as_scores_give_pass_at_n():
    # 2 of 5 right, n = 3: 1 - C(3, 3) / C(5, 3) = 1 - 1/10.
    outcomes = [1, 0, 0, 1, 0]
    assert best_of_n(outcomes, outcomes, 3) == pytest.approx(0.9)


def test_equal_scores_share():
    assert best_of_n([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 3) == pytest.approx(0.25)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5),
    st.integers(1, 5),
)
def test_it_is_the_mean_over_all_draws(rows: list[tuple[int, bool]], n: int):
    """Every order of the chains, so that the lowest index among equals is any of them."""
    n = min(n, len(rows))
    draws = [
        order[best([score for score, _ in order])][1]
        for subset in combinations(rows, n)
        for order in permutations(subset)
    ]
    scores, outcomes = [score for score, _ in rows], [right for _, right in rows]
    assert best_of_n(scores, outcomes, n) == pytest.approx(np.mean(draws))


def test_thousands_of_chains_do_not_overflow():
    scores = np.arange(2000)
    assert best_of_n(scores, scores >= 1000, 1000) == pytest.approx(1.0)


@pytest.mark.parametrize(("n", "nearest"), [(0, 1), (4, 3)])
def test_more_chains_than_there_are(n: int, nearest: int):
    message = f"n is {n} of 3 chains; the nearest valid value is {nearest}"
    with pytest.raises(ValueError, match=message):
        best_of_n([1, 2, 3], [0, 0, 1], n)


# --- the first error -----------------------------------------------------------------------------


def test_the_first_error_is_strictly_below():
    assert first_below([0.9, 0.5, 0.4, 0.1], 0.5) == 2
    assert first_below([0.5, 0.5], 0.5) is None
    assert first_below([], 0.5) is None


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_score_at_the_threshold_is_not_below_it_however_it_was_rounded(threshold: float):
    lower = np.nextafter(np.float32(threshold), np.float32(0))
    assert first_below([np.float32(threshold), lower], threshold) is None
    assert first_below([threshold - 1e-5], threshold) == 0


def test_first_error_accuracy_worked_by_hand():
    # Five chains with an error, three found exactly: 0.6. Two without, both: 1. F1 = 1.2 / 1.6.
    labels = [0, 1, 2, 3, 4, None, None]
    found = [0, 1, 2, None, 3, None, None]
    measured = first_error_accuracy(found, labels)
    assert (measured.erroneous, measured.correct) == (0.6, 1.0)
    assert measured.f1 == pytest.approx(0.75)


def test_claiming_no_error_at_all_scores_0():
    assert first_error_accuracy([None, None], [1, None]).f1 == 0.0
    assert FirstErrorAccuracy(erroneous=0.0, correct=0.0).f1 == 0.0


def test_step_0_is_an_error_and_not_none():
    measured = first_error_accuracy([None, 0], [0, None])
    assert (measured.erroneous, measured.correct) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1, 2], "2 chains with an error, 0 without"), ([None], "0 chains with an error, 1 without")],
)
def test_one_kind_of_chain_alone_has_no_f1(labels: list[int | None], message: str):
    with pytest.raises(ValueError, match=message):
        first_error_accuracy(labels, labels)
