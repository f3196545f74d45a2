from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.uncertainty.last_layer import factor, spread, uncertainty, worst_case

few = settings(max_examples=30)
DIAGONAL = np.linalg.cholesky(np.diag([4.0, 1.0]))


@st.composite
def problems(draw: st.DrawFn):
    """Pairs [P, d] twice, embeddings [n, d], a reference [d] and an orthogonal [d, d]."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs, n, d = draw(st.integers(0, 6)), draw(st.integers(2, 6)), draw(st.integers(1, 5))
    basis, _ = np.linalg.qr(random.normal(size=(d, d)))
    chosen, rejected, embeddings = (random.normal(size=(rows, d)) for rows in (pairs, pairs, n))
    return chosen, rejected, embeddings, random.normal(size=d), basis


def of_pairs(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """The spread of pairs that share no member."""
    above = np.zeros((2 * len(chosen), 2 * len(chosen)), dtype=bool)
    above[np.arange(len(chosen)), len(chosen) + np.arange(len(chosen))] = True
    return spread(np.concatenate([chosen, rejected]), above, "differences")


def test_both_sides_of_pairs_worked_by_hand():
    # (2, 1) over (0, 1): [[4, 2], [2, 1]] + [[0, 0], [0, 1]], the paper's sum.
    above = np.array([[False, True], [False, False]])
    assert spread(np.array([[2, 1], [0, 1]]), above).tolist() == [[4.0, 2.0], [2.0, 2.0]]


def test_pairs_worked_by_hand():
    # Differences (2, 0) and (0, 1): diag(4, 1); with ridge 5 its factor is diag(3, sqrt 6).
    m = of_pairs(np.array([[2, 1], [1, 1]]), np.array([[0, 1], [1, 0]]))
    assert m.tolist() == [[4.0, 0.0], [0.0, 1.0]]
    assert factor(m, 5.0) == pytest.approx(np.diag([3.0, 6**0.5]))
    assert factor(m, 0.0).tolist() == DIAGONAL.tolist()


def test_uncertainty_worked_by_hand():
    # e = (1, 2), M = diag(4, 1): sqrt(1/4 + 4).
    assert uncertainty(DIAGONAL, np.array([[1, 2], [0, 0]])) == pytest.approx([2.061553, 0.0])


def test_the_penalty_worked_by_hand():
    # Differences (0, 3) and (0, -1): g = (0, 1), B = 1: sqrt(1) = 1, and delta = -(0, 1).
    penalty, changes = worst_case(DIAGONAL, np.array([[0, 3], [0, -1]]), 1.0)
    assert penalty == pytest.approx(1.0) and changes == pytest.approx([-3.0, 1.0])
    # Differences (2, 0) alone: g = (2, 0), B = 3: 3 sqrt(4/4) = 3.
    assert worst_case(DIAGONAL, np.array([[2, 0]]), 3.0)[0] == pytest.approx(3.0)


def test_no_radius_and_no_difference_change_nothing():
    assert worst_case(DIAGONAL, np.array([[1, 2], [3, 4]]), 0.0)[1].tolist() == [0.0, 0.0]
    penalty, changes = worst_case(DIAGONAL, np.array([[1, 2], [-1, -2]]), 1.0)
    assert penalty == 0.0 and changes.tolist() == [0.0, 0.0]
    assert worst_case(DIAGONAL, np.zeros((0, 2)), 1.0)[1].tolist() == []


@few
@given(problem=problems())
def test_it_is_the_sum_of_the_pairs_outer_products(problem):
    _, _, embeddings, _, _ = problem
    targets = np.arange(len(embeddings)) // 2
    above = targets[:, None] > targets[None, :]
    differences = [embeddings[i] - embeddings[j] for i, j in zip(*np.nonzero(above), strict=True)]
    expected = sum((np.outer(d, d) for d in differences), np.zeros((embeddings.shape[1],) * 2))
    np.testing.assert_allclose(spread(embeddings, above, "differences"), expected, atol=1e-9)


@few
@given(problem=problems(), radius=st.floats(0.0, 10.0))
def test_the_changes_average_to_the_penalty_and_are_the_worst(problem, radius: float):
    chosen, rejected, embeddings, reference, _ = problem
    m = of_pairs(chosen, rejected) + 0.5 * np.eye(len(reference))
    lower, differences = factor(of_pairs(chosen, rejected), 0.5), embeddings - reference
    penalty, changes = worst_case(lower, differences, radius)
    g = differences.mean(axis=0)
    assert changes.mean() == pytest.approx(-penalty, abs=1e-9)
    assert penalty == pytest.approx(radius * np.sqrt(g @ np.linalg.inv(m) @ g), abs=1e-9)
    # No other head of the same radius does more harm.
    others = np.random.default_rng(0).normal(size=(200, len(g)))
    lengths = np.sqrt(np.einsum("id,de,ie->i", others, m, others))
    harms = (others / lengths[:, None] * radius) @ g
    assert (harms >= -penalty - 1e-9).all()


@few
@given(problem=problems())
def test_the_basis_does_not_matter(problem):
    chosen, rejected, embeddings, reference, basis = problem
    lower = factor(of_pairs(chosen, rejected), 1.0)
    turned = factor(of_pairs(chosen @ basis, rejected @ basis), 1.0)
    np.testing.assert_allclose(
        uncertainty(lower, embeddings), uncertainty(turned, embeddings @ basis)
    )
    one = worst_case(lower, embeddings - reference, 2.0)[1]
    other = worst_case(turned, (embeddings - reference) @ basis, 2.0)[1]
    np.testing.assert_allclose(one, other, atol=1e-9)


@few
@given(problem=problems())
def test_more_data_are_never_less_sure(problem):
    chosen, rejected, embeddings, _, _ = problem
    before = uncertainty(factor(of_pairs(chosen[:1], rejected[:1]), 1.0), embeddings)
    after = uncertainty(factor(of_pairs(chosen, rejected), 1.0), embeddings)
    assert (after <= before + 1e-9).all()


def test_float32_embeddings_are_worked_on_in_float64():
    tiny = np.array([[1e-4, 1.0]], dtype=np.float32)
    assert of_pairs(tiny, np.zeros_like(tiny)).dtype == np.float64
    assert uncertainty(DIAGONAL.astype(np.float32), tiny).dtype == np.float64


def test_a_matrix_that_is_none_is_refused():
    with pytest.raises(np.linalg.LinAlgError):
        factor(np.zeros((2, 2)), 0.0)
