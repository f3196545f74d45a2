from __future__ import annotations

import pytest
import torch

from rlstep.losses.kto import Kto
from tests.builders import make_sequence
from tests.losses.pairwise import close, one_token, pairs, run

LN3 = 1.0986122886681098


def test_one_pair_worked_by_hand():
    # beta 1, Delta ln 3 and -ln 3: z0 = max(0, 0) = 0. Desirable 1 - sigmoid(ln 3) = 1/4,
    # undesirable 1 - sigmoid(ln 3) = 1/4: mean 1/4. Slopes sigmoid' = 3/16: -+ 3/16 / 2.
    out, gradient = run(Kto(beta=1.0), one_token(), [[0.0, LN3], [0.0, -LN3]])
    assert out.loss.item() == pytest.approx(0.25)
    close(gradient, [[0, -0.09375], [0, 0.09375]])
    assert out.metrics["reference_point"].item() == pytest.approx(0.0, abs=1e-12)


def test_ragged_masked_weighted_worked_by_hand():
    # Sequence 0 is chosen against 1 and 2, and counts once. Ratios: s0 = 2 ln 3 over two tokens,
    # s1 = 0 (its first step is masked), s2 = ln 3: z0 = mean = ln 3. beta 1, gains ln 3, -ln 3, 0.
    # desirable weight 2: 2 * 1/4 = 1/2; undesirable weight 1: 1 - sigmoid(ln 3) = 1/4, and 1/2.
    # (1/2 + 1/4 + 1/2) / 3 = 0.416667. Slopes: -2 * 3/16 / 3 = -0.125 on each token of s0,
    # 3/16 / 3 = 0.0625 on s1, 1/4 / 3 = 0.083333 on s2: z0 has no gradient.
    samples = pairs(
        make_sequence("0", [2]),
        make_sequence("1", [1, 1], masked_steps=[0]),
        make_sequence("2", [1, 1]),
        places=[(0, 1), (0, 2)],
    )
    rows = [[0.0, LN3, LN3], [0.0, 40.0, 0.0], [0.0, LN3, 0.0]]
    out, gradient = run(Kto(beta=1.0, desirable_weight=2.0), samples, rows)
    assert out.loss.item() == pytest.approx(0.416667, abs=1e-6)
    close(gradient, [[0, -0.125, -0.125], [0, 0, 0.0625], [0, 0.083333, 0.083333]])
    assert out.metrics["reference_point"].item() == pytest.approx(LN3)


def three(places: list[tuple[int, int]]):
    return pairs(*(make_sequence(str(i), [1]) for i in range(3)), places=places)


ROWS = [[0.0, 1.0], [0.0, 0.5], [0.0, -0.25]]


def test_a_sequence_counts_once_however_many_pairs_it_stands_in():
    # Two pairs (0, 2), (1, 2) and the same with (0, 2) doubled: the same sides, the same loss.
    once = run(Kto(), three([(0, 2), (1, 2)]), ROWS)
    twice = run(Kto(), three([(0, 2), (0, 2), (1, 2)]), ROWS)
    torch.testing.assert_close(once[0].loss, twice[0].loss)
    torch.testing.assert_close(once[1], twice[1])


def test_a_sequence_on_both_sides_is_desirable_by_its_share():
    # 1 is rejected against 0 and chosen against 2: half of each, which cancels in the gradient and
    # gives (sigmoid(-x) + sigmoid(x)) / 2 = 1/2 in value.
    out, gradient = run(Kto(), three([(0, 1), (1, 2)]), ROWS)
    assert gradient[1, 1].item() == pytest.approx(0.0, abs=1e-12)
    alone = run(Kto(), three([(0, 2)]), ROWS)[0].loss.item()
    assert abs(out.loss.item() - alone) == pytest.approx(0.5 / 3, abs=0.01)  # z0 moved a little
    # Chosen in two of three pairs: a third of the full push is left.
    mostly = run(Kto(), three([(0, 1), (1, 2), (1, 2)]), ROWS)[1]
    wholly = run(Kto(), three([(0, 2), (1, 2)]), ROWS)[1]
    torch.testing.assert_close(mostly[1, 1], wholly[1, 1] / 3)


def test_the_reference_point_is_never_below_0():
    # Ratios -2 and -4 would put it at -3.
    out, _ = run(Kto(beta=1.0), one_token(), [[0.0, -2.0], [0.0, -4.0]])
    assert out.metrics["reference_point"].item() == 0.0


def test_policy_equal_to_reference_is_half_of_the_weights():
    out, gradient = run(Kto(undesirable_weight=0.5), one_token(), [[0.0, 0.0], [0.0, 0.0]])
    assert out.loss.item() == pytest.approx((0.5 + 0.25) / 2)
    # -+ weight beta / 4 / 2
    close(gradient, [[0, -0.0125], [0, 0.00625]])


@pytest.mark.parametrize("field", ["beta", "desirable_weight", "undesirable_weight"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is -1.0; the smallest valid value is 0"):
        Kto(**{field: -1.0})
