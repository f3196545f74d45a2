from __future__ import annotations

import math

import pytest

from rlstep.losses.sppo import Sppo
from tests.builders import make_sequence
from tests.losses.pairwise import close, one_token, pairs, run


def test_the_targets_worked_by_hand():
    # P 0.9, beta 0.001: target 0.4 / 0.001 = 400, and -400 for P 0.1: nothing is left at +-400.
    # (Scores are float32, so 0.9 and its target are right to 1e-4.)
    out, gradient = run(Sppo(), one_token(0.9, 0.1), [[0.0, 400.0], [0.0, -400.0]])
    assert out.loss.item() == pytest.approx(0.0, abs=1e-6)
    close(gradient, [[0, 0], [0, 0]], 1e-3)


def test_one_pair_worked_by_hand():
    # beta 0.25, P 0.75 and 0.5: targets 1 and 0. Delta 3 and 2: (2^2 + 2^2) / 2 = 4; slopes 2, 2.
    out, gradient = run(Sppo(beta=0.25), one_token(0.75, 0.5), [[0.0, 3.0], [0.0, 2.0]])
    assert out.loss.item() == pytest.approx(4.0)
    close(gradient, [[0, 2], [0, 2]])


def test_ragged_masked_pairs_worked_by_hand():
    # beta 0.5. Pair (0, 1) with P 1 and 0.25: targets 1 and -0.5; pair (0, 2) with P 0.75 and 0:
    # targets 0.5 and -1. Deltas: s0 = 2 over two tokens, s1 = 0.5 (first step masked), s2 = -1.
    # (1^2 + 1^2) / 2 = 1 and (1.5^2 + 0) / 2 = 1.125: mean 1.0625.
    # Slopes: s0 (1 + 1.5) / 2 = 1.25 a token, s1 1 / 2, s2 0.
    samples = pairs(
        make_sequence("0", [2]),
        make_sequence("1", [1, 1], masked_steps=[0]),
        make_sequence("2", [1, 1]),
        places=[(0, 1), (0, 2)],
        scores=[(1.0, 0.25), (0.75, 0.0)],
    )
    out, gradient = run(Sppo(beta=0.5), samples, [[0, 0.5, 1.5], [0, 40, 0.5], [0, -2, 1]])
    assert out.loss.item() == pytest.approx(1.0625)
    close(gradient, [[0, 1.25, 1.25], [0, 0, 0.5], [0, 0, 0]])


def test_a_side_does_not_see_the_other():
    # Unlike DPO: moving the rejected side changes nothing for the chosen one.
    one = run(Sppo(beta=0.5), one_token(), [[0.0, 0.3], [0.0, 0.0]])[1]
    other = run(Sppo(beta=0.5), one_token(), [[0.0, 0.3], [0.0, -7.0]])[1]
    assert one[0, 1] == other[0, 1]
    assert one[1, 1] != other[1, 1]


def test_equal_win_rates_of_one_half_pull_back_to_the_reference():
    _, gradient = run(Sppo(), one_token(0.5, 0.5), [[0.0, 2.0], [0.0, -2.0]])
    close(gradient, [[0, 2], [0, -2]])


@pytest.mark.parametrize(("scores", "shown"), [((1.5, 0.0), "1.5"), ((1.0, -0.25), "-0.25")])
def test_scores_that_are_no_win_rates_are_refused(scores: tuple[float, float], shown: str):
    with pytest.raises(ValueError, match=rf"score is {shown}; Sppo reads scores as win rates"):
        run(Sppo(), one_token(*scores), [[0.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan])
def test_bad_values_are_refused(value: float):
    with pytest.raises(ValueError, match=rf"loss\.beta is {value}"):
        Sppo(beta=value)
