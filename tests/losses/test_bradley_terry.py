from __future__ import annotations

import math

import pytest
import torch

from rlstep.losses.bradley_terry import BradleyTerry, last_trained
from tests.builders import make_sequence
from tests.losses.pairwise import close, one_token, pairs, ragged, run


def test_one_pair_worked_by_hand():
    # r_c - r_r = 2 - 1 = 1: log(1 + e^-1) = 0.313262; slope -+ sigmoid(-1) = 0.268941.
    out, gradient = run(BradleyTerry(), one_token(), [[7.0, 2.0], [-7.0, 1.0]])
    assert out.loss.item() == pytest.approx(0.313262, abs=1e-6)
    close(gradient, [[0, -0.268941], [0, 0.268941]])


def test_the_last_trained_token_of_each_side_is_the_reward():
    # Rewards 1, 0 and 2: pairs (0, 1) and (0, 2) have differences 1 and -1, so the loss is
    # (0.313262 + 1.313262) / 2; slopes 0.268941 / 2 and 0.731059 / 2. Other tokens have none.
    rows = [[9.0, 9.0, 1.0], [9.0, 9.0, 0.0], [9.0, 9.0, 2.0]]
    out, gradient = run(BradleyTerry(), ragged(), rows)
    assert out.loss.item() == pytest.approx(0.813262, abs=1e-6)
    close(gradient, [[0, 0, -0.5], [0, 0, 0.134471], [0, 0, 0.365529]])
    expected = {"pair_accuracy": 0.5, "margin": 0.0, "chosen_reward": 1.0, "rejected_reward": 1.0}
    assert {n: v.item() for n, v in out.metrics.items()} == pytest.approx(expected)


def test_a_masked_end_is_no_reward():
    samples = pairs(make_sequence("c", [1, 1], masked_steps=[1]), make_sequence("r", [1]))
    out, gradient = run(BradleyTerry(), samples, [[0.0, 1.0, 50.0], [0.0, 0.0]])
    assert out.loss.item() == pytest.approx(0.313262, abs=1e-6)
    assert gradient[0, 2] == 0.0


def test_the_margin_is_in_units_of_the_scores():
    # Scores 3 and 1, 0.5 a unit: m = 1, and r_c - r_r - m = 1 - 1 = 0.
    out, gradient = run(BradleyTerry(margin=0.5), one_token(3.0, 1.0), [[0.0, 2.0], [0.0, 1.0]])
    assert out.loss.item() == pytest.approx(math.log(2.0))
    close(gradient, [[0, -0.5], [0, 0.5]])


def test_centering_draws_the_sum_of_the_rewards_to_zero():
    # c 0.1, rewards 2 and 1: 0.313262 + 0.1 * 9; both slopes gain 2 * 0.1 * 3 = 0.6.
    out, gradient = run(BradleyTerry(centering=0.1), one_token(), [[0.0, 2.0], [0.0, 1.0]])
    assert out.loss.item() == pytest.approx(1.213262, abs=1e-6)
    close(gradient, [[0, 0.331059], [0, 0.868941]])


def test_without_centering_preferences_leave_the_level_free():
    rows = [[0.0, 2.0], [0.0, 1.0]]
    moved = [[value + 5.0 for value in row] for row in rows]
    plain, centred = (
        [run(loss, one_token(), r)[0].loss.item() for r in (rows, moved)]
        for loss in (BradleyTerry(), BradleyTerry(centering=0.1))
    )
    assert plain[0] == pytest.approx(plain[1]) and centred[1] > centred[0] + 1.0


def test_a_sequence_without_a_trained_token_has_no_reward():
    values, mask = torch.tensor([[1.0, 2.0, math.nan]]), torch.tensor([[True, True, False]])
    assert last_trained(values, mask).tolist() == [2.0]
    assert last_trained(values, torch.zeros(1, 3, dtype=torch.bool)).tolist() == [0.0]


def test_it_needs_no_reference():
    assert BradleyTerry().reads == frozenset()


@pytest.mark.parametrize("field", ["margin", "centering"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is -1.0; the smallest valid value is 0"):
        BradleyTerry(**{field: -1.0})
