from __future__ import annotations

import math

import pytest
import torch

from rlstep.losses.policy_gradient import Clip, PolicyGradient
from rlstep.losses.ppo import Ppo
from tests.losses.policy_gradient_kit import RAGGED_ROWS, close, one_token, ragged, run


def test_it_has_the_papers_clip_and_no_extras():
    out, _ = run(Ppo(), one_token(2.0), [[0.0, math.log(1.5)]])
    assert out.loss.item() == pytest.approx(-2.4)  # min(1.5 * 2, 1.2 * 2)
    assert Ppo().reads == {"old_logprobs"}
    one, other = run(Ppo(), ragged(), RAGGED_ROWS), run(PolicyGradient(), ragged(), RAGGED_ROWS)
    assert one[0].loss == other[0].loss and torch.equal(one[1], other[1])


@pytest.mark.parametrize(
    ("rho", "advantage", "loss", "slope", "clipped"),
    [
        # max(min(5 * -2, 1.2 * -2), 3 * -2) = max(-10, -6) = -6: bounded, no gradient.
        (5.0, -2.0, 6.0, 0.0, 1.0),
        # max(2 * -2, 3 * -2) = -4: inside, gradient -rho A = 4.
        (2.0, -2.0, 4.0, 4.0, 0.0),
        # A > 0 never meets it: 1.2 * 2.
        (5.0, 2.0, -2.4, 0.0, 1.0),
    ],
)
def test_dual_clip_worked_by_hand(rho, advantage, loss, slope, clipped):
    dual = Ppo(surrogate=Clip(dual=3.0))
    out, gradient = run(dual, one_token(advantage), [[0.0, math.log(rho)]])
    assert out.loss.item() == pytest.approx(loss)
    assert gradient[0, 1].item() == pytest.approx(slope)
    assert out.metrics["clip_fraction"].item() == clipped


def test_ragged_masked_dual_clip_worked_by_hand():
    # rho = 4 on the token with A = -2: bounded to 3 * -2 = -6. Gains 1, 1.1 and -6 over 3 tokens.
    rows = [RAGGED_ROWS[0], [0.0, 50.0, math.log(4.0)]]
    out, gradient = run(Ppo(surrogate=Clip(dual=3.0)), ragged(), rows)
    assert out.loss.item() == pytest.approx(3.9 / 3)
    close(gradient, [[0, -1 / 3, -1.1 / 3], [0, 0, 0]])
    # Without it the same token has 4 * -2 = -8.
    assert run(Ppo(), ragged(), rows)[0].loss.item() == pytest.approx(5.9 / 3)
