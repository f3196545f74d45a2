from __future__ import annotations

import math

import pytest

from rlstep.losses.simpo import Simpo
from tests.builders import make_sequence
from tests.losses.pairwise import close, one_token, pairs, ragged, run


def test_one_pair_worked_by_hand():
    # beta 2, means -1 and -2, gamma 1: h = 2 (1) - 1 = 1, loss 0.313262;
    # gradient -+ 2 * sigmoid(-1) = 0.537883.
    out, gradient = run(Simpo(), one_token(), [[0.0, -1.0], [0.0, -2.0]])
    assert out.loss.item() == pytest.approx(0.313262, abs=1e-6)
    close(gradient, [[0, -0.537883], [0, 0.537883]])


def test_ragged_masked_pairs_worked_by_hand():
    # Means: s0 = (-1 - 2) / 2 = -1.5, s1 = -2 (its first step is masked), s2 = (-1 - 1) / 2 = -1.
    # beta 2, gamma 0: h01 = 1, h02 = -1: (0.313262 + 1.313262) / 2 = 0.813262.
    # Slopes: pair 01 -2 * 0.268941 / 2 = -0.268941, pair 02 -2 * 0.731059 / 2 = -0.731059:
    # s0 has -1 over two tokens, s1 0.268941 on one, s2 0.731059 over two.
    rows = [[0.0, -1.0, -2.0], [0.0, -50.0, -2.0], [0.0, -1.0, -1.0]]
    out, gradient = run(Simpo(gamma=0.0), ragged(), rows)
    assert out.loss.item() == pytest.approx(0.813262, abs=1e-6)
    close(gradient, [[0, -0.5, -0.5], [0, 0, 0.268941], [0, 0.365529, 0.365529]])
    assert out.metrics["pair_accuracy"].item() == 0.5
    assert out.metrics["chosen_mean_logprob"].item() == pytest.approx(-1.5)
    assert out.metrics["rejected_mean_logprob"].item() == pytest.approx(-1.5)


def test_length_gives_no_reward():
    # The longer side has the lower sum and the higher mean, so it is the likelier one here.
    samples = pairs(make_sequence("c", [4]), make_sequence("r", [1]))
    out, _ = run(Simpo(gamma=0.0), samples, [[0.0, -1.0, -1.0, -1.0, -1.0], [0.0, -2.0]])
    assert out.metrics["pair_accuracy"].item() == 1.0
    assert out.loss.item() < math.log(2.0)


def test_it_needs_no_reference():
    assert Simpo().reads == frozenset()


@pytest.mark.parametrize("field", ["beta", "gamma"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is -1.0; the smallest valid value is 0"):
        Simpo(**{field: -1.0})
