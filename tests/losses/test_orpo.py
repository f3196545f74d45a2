from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstep.losses.orpo import Orpo, log_odds
from tests.losses.pairwise import close, one_token, ragged, run

LN2, LN4 = math.log(2.0), math.log(4.0)


def test_one_pair_worked_by_hand():
    # p 1/2 and 1/4: odds 1 and 1/3, ratio 3: -ln sigmoid(ln 3) = ln(4/3) = 0.287682.
    # NLL ln 2; weight 2: 0.693147 + 0.575364 = 1.268511.
    # d log odds / d log p = 1 / (1 - p): 2 and 4/3; sigmoid(-ln 3) = 1/4.
    # Chosen: -1 - 2 * 1/4 * 2 = -2; rejected: 2 * 1/4 * 4/3 = 2/3.
    out, gradient = run(Orpo(odds_weight=2.0), one_token(), [[0.0, -LN2], [0.0, -LN4]])
    assert out.loss.item() == pytest.approx(1.268511, abs=1e-6)
    close(gradient, [[0, -2], [0, 2 / 3]])
    assert out.metrics["log_odds_ratio"].item() == pytest.approx(math.log(3.0))


def test_ragged_masked_pairs_worked_by_hand():
    # Means: s0 = -ln 2 (of 0 and -2 ln 2), s1 = -ln 4 (its first step is masked), s2 = -ln 4.
    # Both pairs are the one above: the value is the same with weight 2, NLL ln 2.
    # s0: -2 in all over two tokens; s1: 2/3 / 2 pairs; s2: the same over two tokens.
    rows = [[0.0, 0.0, -2 * LN2], [0.0, -9.0, -LN4], [0.0, -LN2, -3 * LN2]]
    out, gradient = run(Orpo(odds_weight=2.0), ragged(), rows)
    assert out.loss.item() == pytest.approx(1.268511, abs=1e-6)
    close(gradient, [[0, -1, -1], [0, 0, 1 / 3], [0, 1 / 6, 1 / 6]])
    assert out.metrics["chosen_nll"].item() == pytest.approx(LN2)


@given(exponent=st.integers(1, 40))
def test_log_odds_near_certainty(exponent: int):
    # p = exp(-x), 1 - p = x - x^2 / 2 + x^3 / 6 - ...: for x = 2^-k summed exactly.
    x = Fraction(1, 2**exponent)
    left, term = Fraction(0), Fraction(-1)
    for n in range(1, 25):
        term *= -x / n
        left += term
    expected = -float(x) - math.log(left)
    got = log_odds(torch.tensor(-float(x), dtype=torch.float64)).item()
    assert got == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_certain_sequence_has_finite_odds_and_a_gradient(dtype: torch.dtype):
    certain = torch.zeros(1, dtype=dtype, requires_grad=True)
    odds = log_odds(certain)
    (gradient,) = torch.autograd.grad(odds.sum(), certain)
    # -ln eps: 15.9 in float32, 36.0 in float64.
    assert odds.item() == pytest.approx(-math.log(torch.finfo(dtype).eps))
    assert gradient.item() == 1.0


def test_no_weight_is_supervised_fine_tuning_on_the_chosen_side():
    rows = [[0.0, -1.0, -2.0], [0.0, -9.0, -0.5], [0.0, -1.0, -3.0]]
    _, gradient = run(Orpo(odds_weight=0.0), ragged(), rows)
    close(gradient, [[0, -0.5, -0.5], [0, 0, 0], [0, 0, 0]])


def test_it_needs_no_reference():
    assert Orpo().reads == frozenset()


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"loss\.odds_weight is -1.0; the smallest valid value"):
        Orpo(odds_weight=-1.0)
