from __future__ import annotations

import math

import pytest

from rlstep.losses.cispo import Cispo, ClippedWeight
from tests.losses.policy_gradient_kit import RAGGED_ROWS, close, one_token, ragged, run


@pytest.mark.parametrize(
    ("rho", "weight", "clipped"), [(2.0, 2.0, 0.0), (8.0, 5.0, 1.0), (0.01, 0.01, 0.0)]
)
def test_one_token_worked_by_hand(rho, weight, clipped):
    # policy -0.5, old -0.5 - ln rho, A = 2: loss -weight * 2 * -0.5 = weight, gradient -2 weight.
    # Outside the bound the token keeps its gradient, with the bound as weight.
    rows = [[0.0, -0.5]]
    out, gradient = run(Cispo(), one_token(2.0), rows, old_logprobs=[[0.0, -0.5 - math.log(rho)]])
    assert out.loss.item() == pytest.approx(weight)
    assert gradient[0, 1].item() == pytest.approx(-2.0 * weight)
    assert out.metrics["clip_fraction"].item() == clipped


def test_ragged_masked_worked_by_hand():
    # Weights 1, 1.1 and 0.9, capped at 1.05; logprobs 0, ln 1.1 and ln 0.9; A = 1, 1, -2.
    # Loss -(0 + 1.05 ln 1.1 - 1.8 ln 0.9) / 3; gradients -weight A / 3.
    out, gradient = run(Cispo(surrogate=ClippedWeight(high=0.05)), ragged(), RAGGED_ROWS)
    expected = -(1.05 * math.log(1.1) - 1.8 * math.log(0.9)) / 3
    assert out.loss.item() == pytest.approx(expected)
    close(gradient, [[0, -1 / 3, -0.35], [0, 0, 0.6]])
    assert out.metrics["clip_fraction"].item() == pytest.approx(1 / 3)


def test_a_lower_bound_keeps_a_floor_under_the_weight():
    loss = Cispo(surrogate=ClippedWeight(low=0.2))
    _, gradient = run(loss, one_token(1.0), [[0.0, 0.0]], old_logprobs=[[0.0, math.log(2.0)]])
    assert gradient[0, 1].item() == pytest.approx(-0.8)  # not rho = 0.5


def test_the_gradient_is_not_the_values():
    # At rho = 2 the derivative of the value would have the ratio's own: the constant has not.
    old = [[0.0, 0.5 - math.log(2.0)]]
    values = [run(Cispo(), one_token(1.0), [[0.0, p]], old_logprobs=old) for p in (0.5, 0.5 + 1e-6)]
    slope = (values[1][0].loss - values[0][0].loss).item() / 1e-6
    assert values[0][1][0, 1].item() == pytest.approx(-2.0)
    assert slope == pytest.approx(-2.0 - 2.0 * 0.5, abs=1e-4)


@pytest.mark.parametrize("field", ["low", "high"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.surrogate\.{field} is -0.1; .* 0"):
        ClippedWeight(**{field: -0.1})
