from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.losses.bgpo import Bgpo
from rlstep.losses.gspo import Gspo
from rlstep.losses.policy_gradient import Clip
from tests.builders import make_sequence
from tests.losses.policy_gradient_kit import close, ragged, run, samples_of

SEQUENCE_RATIO = Gspo(surrogate=Clip(low=1.0, high=1e9))
"""-A exp(mean_t log rho), unclipped: what the bound stands for."""


@pytest.mark.parametrize(
    ("advantage", "loss", "gradient"),
    [
        # 2 (1 + (0.5 - 0.1) / 2) = 2.4; gradients -2 / 2.
        (2.0, -2.4, [-1.0, -1.0]),
        # -2 (e^0.5 + e^-0.1) / 2 = -(1.648721 + 0.904837); gradients 2 e^delta / 2.
        (-2.0, 2.553559, [1.648721, 0.904837]),
    ],
)
def test_one_sequence_worked_by_hand(advantage, loss, gradient):
    samples = samples_of([make_sequence("a", [2])], [[0, advantage, advantage]])
    out, actual = run(Bgpo(), samples, [[0.0, 0.5, -0.1]])
    assert out.loss.item() == pytest.approx(loss, abs=1e-6)
    close(actual, [[0.0, *gradient]])


def test_ragged_masked_worked_by_hand():
    # Sequence 0, A = 1: 1 + (0.4 + 0) / 2 = 1.2. Sequence 1, A = -2: -2 e^0.1. Mean over both.
    out, gradient = run(Bgpo(), ragged(), [[0.0, 0.4, 0.0], [0.0, 50.0, 0.1]])
    assert out.loss.item() == pytest.approx(-(1.2 - 2 * math.exp(0.1)) / 2)
    close(gradient, [[0, -0.25, -0.25], [0, 0, math.exp(0.1)]])


deltas = st.lists(st.floats(-3, 3), min_size=1, max_size=6)


@settings(max_examples=50)
@given(deltas=deltas, advantage=st.floats(-3, 3, width=32))
def test_the_gain_is_bounded_from_below(deltas: list[float], advantage: float):
    samples = samples_of([make_sequence("a", [len(deltas)])], [[0.0] + [advantage] * len(deltas)])
    bound, _ = run(Bgpo(), samples, [[0.0, *deltas]])
    exact, _ = run(SEQUENCE_RATIO, samples, [[0.0, *deltas]])
    assert bound.loss >= exact.loss - 1e-12  # losses are minus the gains


@settings(max_examples=20)
@given(length=st.integers(1, 6), advantage=st.floats(-3, 3, width=32))
def test_value_and_gradient_are_equal_where_nothing_has_changed(length: int, advantage: float):
    samples = samples_of([make_sequence("a", [length])], [[0.0] + [advantage] * length])
    rows = [[0.0] * (length + 1)]
    (bound, one), (exact, other) = run(Bgpo(), samples, rows), run(SEQUENCE_RATIO, samples, rows)
    torch.testing.assert_close(bound.loss, exact.loss)
    torch.testing.assert_close(one, other)


def test_the_bound_is_strict_where_tokens_differ():
    samples = samples_of([make_sequence("a", [2])], [[0, -1, -1]])
    rows = [[0.0, 1.0, -1.0]]  # the mean log-ratio is 0: exactly 1, against cosh(1)
    assert run(SEQUENCE_RATIO, samples, rows)[0].loss.item() == pytest.approx(1.0)
    assert run(Bgpo(), samples, rows)[0].loss.item() == pytest.approx(math.cosh(1.0))
