from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstep.losses.dpo import Dpo
from rlstep.losses.score_offset_dpo import ScoreOffsetDpo
from tests.builders import make_sequence
from tests.losses.pairwise import close, one_token, pairs, run


def test_one_pair_worked_by_hand():
    # beta 0.5, Delta 1 and -1: h = 1. Scores 0.75 and 0.5, scale 2: offset 0.5.
    # -ln sigmoid(0.5) = 0.474077; gradient -+ 0.5 sigmoid(-0.5) = 0.188770.
    loss = ScoreOffsetDpo(beta=0.5, scale=2.0)
    out, gradient = run(loss, one_token(0.75, 0.5), [[0.0, 1.0], [0.0, -1.0]])
    assert out.loss.item() == pytest.approx(0.474077, abs=1e-6)
    close(gradient, [[0, -0.188770], [0, 0.188770]])
    assert out.metrics["margin"].item() == pytest.approx(1.0)


def test_ragged_masked_pairs_worked_by_hand():
    # beta 1, scale 1. s0 = 1, s1 = 0.5 (first step masked), s2 = 1. Offsets 0.5 and 1:
    # h = 0.5 - 0.5 = 0 and 0 - 1 = -1: (0.693147 + 1.313262) / 2 = 1.003204.
    # Slopes: 0.5 / 2 and 0.731059 / 2 = 0.365529; s0 has both.
    samples = pairs(
        make_sequence("0", [2]),
        make_sequence("1", [1, 1], masked_steps=[0]),
        make_sequence("2", [1, 1]),
        places=[(0, 1), (0, 2)],
        scores=[(1.0, 0.5), (1.0, 0.0)],
    )
    loss = ScoreOffsetDpo(beta=1.0)
    out, gradient = run(loss, samples, [[0, 0.25, 0.75], [0, 40, 0.5], [0, -1, 2]])
    assert out.loss.item() == pytest.approx(1.003204, abs=1e-6)
    close(gradient, [[0, -0.615529, -0.615529], [0, 0, 0.25], [0, 0.365529, 0.365529]])


NUMBERS = st.floats(-20, 20, width=32)


@given(chosen=NUMBERS, rejected=NUMBERS, score=NUMBERS, scale=st.floats(0, 3))
def test_no_offset_is_dpo(chosen: float, rejected: float, score: float, scale: float):
    rows = [[0.0, chosen], [0.0, rejected]]
    expected = run(Dpo(beta=0.3), one_token(), rows)
    for loss, samples in (
        (ScoreOffsetDpo(beta=0.3, scale=0.0), one_token(score, 0.0)),
        (ScoreOffsetDpo(beta=0.3, scale=scale), one_token(score, score)),
    ):
        out, gradient = run(loss, samples, rows)
        torch.testing.assert_close((out.loss, gradient), (expected[0].loss, expected[1]))


def test_a_wider_gap_of_scores_pushes_more():
    rows = [[0.0, 1.0], [0.0, -1.0]]
    near = run(ScoreOffsetDpo(), one_token(0.6, 0.5), rows)[1]
    far = run(ScoreOffsetDpo(), one_token(1.0, 0.0), rows)[1]
    assert far[0, 1] < near[0, 1] < 0.0


@pytest.mark.parametrize("field", ["beta", "scale"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is -1.0; the smallest valid value is 0"):
        ScoreOffsetDpo(**{field: -1.0})
