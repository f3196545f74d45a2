from __future__ import annotations

import math

import pytest
import torch

from rlstep.losses.ipo import Ipo
from tests.builders import make_sequence
from tests.losses.pairwise import close, one_token, pairs, ragged, run


def test_one_pair_worked_by_hand():
    # Delta 1 and -1, beta 0.5: (1 + 1 - 1)^2 = 1, gradient 2 (1) and -2 (1).
    out, gradient = run(Ipo(beta=0.5), one_token(), [[0.0, 1.0], [0.0, -1.0]])
    assert out.loss.item() == pytest.approx(1.0)
    close(gradient, [[0, 2], [0, -2]])
    assert out.metrics["margin"].item() == pytest.approx(1.0)


ROWS = [[0.0, 0.5, 1.5], [0.0, 40.0, 0.5], [0.0, -1.0, 2.0]]


def test_sum_form_of_ragged_masked_pairs_worked_by_hand():
    # Sums: s0 = 2, s1 = 0.5 (its 40 is masked), s2 = 1; target 1 / (2 * 0.5) = 1.
    # (2 - 0.5 - 1)^2 = 0.25 and (2 - 1 - 1)^2 = 0: mean 0.125.
    # Gradient of the first pair: 2 * 0.5 / 2 pairs = 0.5 on each token of s0, -0.5 on s1; second 0.
    out, gradient = run(Ipo(beta=0.5), ragged(), ROWS)
    assert out.loss.item() == pytest.approx(0.125)
    close(gradient, [[0, 0.5, 0.5], [0, 0, -0.5], [0, 0, 0]])


def test_per_token_form_of_ragged_masked_pairs_worked_by_hand():
    # Means: s0 = 1, s1 = 0.5, s2 = 0.5; beta 1, target 0.5: (0.5 - 0.5)^2 twice = 0.
    loss = Ipo(beta=1.0, per_token=True)
    out, gradient = run(loss, ragged(), ROWS)
    assert out.loss.item() == pytest.approx(0.0)
    close(gradient, [[0, 0, 0]] * 3)
    # beta 0.5, target 1: (-0.5)^2 twice, mean 0.25. s0: 2 (-0.5) a pair, mean -1, a half per token;
    # s1: +1 / 2 pairs on 1 token; s2: the same over 2 tokens.
    out, gradient = run(Ipo(beta=0.5, per_token=True), ragged(), ROWS)
    assert out.loss.item() == pytest.approx(0.25)
    close(gradient, [[0, -0.5, -0.5], [0, 0, 0.5], [0, 0.25, 0.25]])
    assert out.metrics["chosen_logprob_change"].item() == pytest.approx(2.0)


def test_policy_equal_to_reference_is_the_squared_target():
    out, _ = run(Ipo(beta=0.25), one_token(), [[0.0, 0.0], [0.0, 0.0]])
    assert out.loss.item() == pytest.approx(4.0)


def test_a_common_shift_cancels_in_the_sum_form():
    samples = pairs(make_sequence("c", [3]), make_sequence("r", [1]))
    one, gradient = run(Ipo(), samples, [[0.0, 1.0, 2.0, 3.0], [0.0, 4.0]])
    other, shifted = run(Ipo(), samples, [[0.0, 1.75, 2.0, 3.0], [0.0, 4.75]])
    assert one.loss.item() == pytest.approx(other.loss.item())
    torch.testing.assert_close(gradient, shifted)


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan])
def test_bad_values_are_refused(value: float):
    with pytest.raises(ValueError, match=rf"loss\.beta is {value}"):
        Ipo(beta=value)
