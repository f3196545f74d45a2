from __future__ import annotations

import math

import pytest

from rlstep.losses.dapo import Dapo
from rlstep.losses.ppo import Ppo
from tests.losses.policy_gradient_kit import RAGGED_ROWS, close, one_token, ragged, run


def test_the_upper_bound_is_higher_worked_by_hand():
    # rho 1.25 is inside [0.8, 1.28] and outside PPO's [0.8, 1.2]; rho 1.5 is outside both.
    near, far = [[0.0, math.log(1.25)]], [[0.0, math.log(1.5)]]
    assert run(Dapo(), one_token(1.0), near)[0].loss.item() == pytest.approx(-1.25)
    assert run(Ppo(), one_token(1.0), near)[0].loss.item() == pytest.approx(-1.2)
    assert run(Dapo(), one_token(1.0), far)[0].loss.item() == pytest.approx(-1.28)
    # The lower bound is PPO's: min(0.5 * -1, 0.8 * -1).
    low = [[0.0, math.log(0.5)]]
    assert run(Dapo(), one_token(-1.0), low)[0].loss.item() == pytest.approx(0.8)


def test_ragged_masked_token_mean_worked_by_hand():
    # rho 1.25, 1.1 with A = 1; 0.9 with A = -2: (1.25 + 1.1 - 1.8) / 3 tokens.
    rows = [[0.0, math.log(1.25), math.log(1.1)], RAGGED_ROWS[1]]
    out, gradient = run(Dapo(), ragged(), rows)
    assert out.loss.item() == pytest.approx(-0.55 / 3)
    close(gradient, [[0, -1.25 / 3, -1.1 / 3], [0, 0, 0.6]])
    assert out.metrics["clip_fraction"].item() == 0.0
    assert Dapo().reads == {"old_logprobs"}  # no KL
