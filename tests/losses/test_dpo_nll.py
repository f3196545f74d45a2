from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlstep.losses.dpo import Dpo
from rlstep.losses.dpo_nll import DpoNll
from tests.losses.pairwise import close, one_token, ragged, run


def test_one_pair_worked_by_hand():
    # Policy -1 and -3, reference -2 on both: Delta 1 and -1, beta 0.5: DPO is 0.313262.
    # NLL of the chosen token is 1, alpha 2: 1 + 2 * 0.313262 = 1.626523.
    # Gradient: chosen -1 - 2 * 0.134471, rejected 2 * 0.134471.
    rows, ref = [[0.0, -1.0], [0.0, -3.0]], [[0.0, -2.0], [0.0, -2.0]]
    out, gradient = run(DpoNll(beta=0.5, alpha=2.0), one_token(), rows, ref)
    assert out.loss.item() == pytest.approx(1.626523, abs=1e-6)
    close(gradient, [[0, -1.268941], [0, 0.268941]])
    assert out.metrics["chosen_nll"].item() == pytest.approx(1.0)
    # The other placement: 0.313262 + 2 * 1 = 2.313262; chosen -2 - 0.134471, rejected 0.134471.
    other = DpoNll(beta=0.5, alpha=2.0, alpha_weighs="nll")
    out, gradient = run(other, one_token(), rows, ref)
    assert out.loss.item() == pytest.approx(2.313262, abs=1e-6)
    close(gradient, [[0, -2.134471], [0, 0.134471]])


def test_ragged_masked_pairs_worked_by_hand():
    # s0 is the winner of both pairs: tokens -1 and -2, NLL 1.5, twice, mean 1.5. Policy equal to
    # the reference: DPO is ln 2, its gradient -beta / 2 / 2 a pair and token with beta 0.5.
    # s0: -1/2 from the NLL, -0.125 twice; s1, masked at its first step, and s2: +0.125.
    rows = [[0.0, -1.0, -2.0], [0.0, -40.0, -0.5], [0.0, -1.0, -3.0]]
    out, gradient = run(DpoNll(beta=0.5), ragged(), rows, rows)
    assert out.loss.item() == pytest.approx(1.5 + 0.693147, abs=1e-6)
    close(gradient, [[0, -0.75, -0.75], [0, 0, 0.125], [0, 0.125, 0.125]])


ROWS = [[0.0, -1.0, -2.0], [0.0, -9.0, -0.5], [0.0, -1.0, -3.0]]
REF = [[0.0, -2.0, -2.0], [0.0, -9.0, -1.5], [0.0, -0.5, -3.0]]


def test_the_placements_agree_at_1_and_the_terms_can_be_told_apart():
    one = run(DpoNll(), ragged(), ROWS, REF)
    other = run(DpoNll(alpha_weighs="nll"), ragged(), ROWS, REF)
    torch.testing.assert_close(one[0].loss, other[0].loss)
    torch.testing.assert_close(one[1], other[1])
    # alpha 0 on the likelihood leaves DPO; on DPO it leaves the likelihood.
    dpo = run(Dpo(), ragged(), ROWS, REF)
    torch.testing.assert_close(
        run(DpoNll(alpha=0.0, alpha_weighs="nll"), ragged(), ROWS, REF)[1], dpo[1]
    )
    likelihood = run(DpoNll(alpha=0.0), ragged(), ROWS, REF)[1]
    close(likelihood, [[0, -0.5, -0.5], [0, 0, 0], [0, 0, 0]])


def test_the_reference_does_not_enter_the_likelihood():
    shifted = [[value - 3.0 for value in row] for row in REF]
    one, other = run(DpoNll(), ragged(), ROWS, REF)[0], run(DpoNll(), ragged(), ROWS, shifted)[0]
    assert one.metrics["chosen_nll"] == other.metrics["chosen_nll"]
    assert one.loss != other.loss


@pytest.mark.parametrize("field", ["alpha", "beta"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is -1.0; the smallest valid value is 0"):
        replace(DpoNll(), **{field: -1.0})
