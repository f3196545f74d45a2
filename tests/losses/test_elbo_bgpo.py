from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.losses.elbo_bgpo import ElboBgpo
from tests.builders import make_sequence
from tests.losses.policy_gradient_kit import close, run, samples_of

LOSS: Any = ElboBgpo()


def of_rows(rows: list[list[float]], advantage: float) -> tuple[float, Any]:
    """Loss and gradient; a row is one masking of the same completion, its changes of the ELBO."""
    sequences = [make_sequence(f"{i}", [len(row)]) for i, row in enumerate(rows)]
    samples = samples_of(sequences, [[0.0] + [advantage] * len(row) for row in rows])
    out, gradient = run(LOSS, samples, [[0.0, *row] for row in rows])
    return out.loss.item(), gradient


@pytest.mark.parametrize(
    ("advantage", "loss", "weights"),
    [
        # delta is 0.2 and -0.1: 2 (1 + 0.05) = 2.1. Gradients -2 / 2 tokens / 2 rows.
        (2.0, -2.1, [-0.5, -0.5]),
        # -2 (e^0.2 + e^-0.1) / 2 = -(1.221403 + 0.904837); gradients 2 e^delta / 4.
        (-2.0, 2.126240, [0.610701, 0.452419]),
    ],
)
def test_two_maskings_worked_by_hand(advantage: float, loss: float, weights: list[float]):
    value, gradient = of_rows([[0.4, 0.0], [0.0, -0.2]], advantage)
    assert value == pytest.approx(loss, abs=1e-6)
    close(gradient, [[0.0, w, w] for w in weights])


rows_of_two = st.lists(st.lists(st.floats(-2, 2), min_size=2, max_size=2), min_size=1, max_size=5)


@settings(max_examples=40)
@given(rows=rows_of_two, advantage=st.floats(-3, 3, width=32))
def test_it_bounds_the_gain_of_the_mean_from_below(rows: list[list[float]], advantage: float):
    mean = sum(map(sum, rows)) / len(rows) / 2
    assert -of_rows(rows, advantage)[0] <= advantage * math.exp(mean) + 1e-9


@pytest.mark.parametrize("advantage", [1.5, -1.5])
def test_value_and_gradient_are_the_gains_where_nothing_has_changed(advantage: float):
    value, gradient = of_rows([[0.0, 0.0]] * 3, advantage)
    assert value == pytest.approx(-advantage)
    close(gradient, [[0.0, -advantage / 6, -advantage / 6]] * 3)  # A exp(mean) / 3 rows / 2 tokens


def test_a_masking_weighs_by_its_own_change_and_a_token_by_its_own_advantage():
    samples = samples_of([make_sequence("a", [2])], [[0.0, 1.0, -1.0]])
    out, gradient = run(LOSS, samples, [[0.0, 0.6, 0.2]])
    # delta = 0.4: (1 (1 + 0.4) - e^0.4) / 2.
    assert out.loss.item() == pytest.approx(-(1.4 - math.exp(0.4)) / 2, abs=1e-6)
    close(gradient, [[0.0, -0.5, math.exp(0.4) / 2]])
