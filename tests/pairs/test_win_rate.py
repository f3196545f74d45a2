from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.pairs.win_rate import WinRatePairs, win_rates
from rlstep.types import PairSamples, Rollout
from tests.builders import make_group, make_rollout
from tests.pairs.test_outcome import names


def rollout(name: str, token: int, outcome: float | None, *scores: float) -> Rollout:
    return make_rollout(name, [[token]] * len(scores), outcome=outcome, scores={"prm": scores})


def made(*rollouts: Rollout, **kwargs) -> PairSamples:
    return WinRatePairs(**kwargs).samples([make_group(*rollouts)])


def test_win_rates_worked_by_hand():
    # 1: beats 0 and 0.5, ties itself: 2.5 / 3. 0.5: beats 0, ties itself: 1.5 / 3. 0: 0.5 / 3.
    assert win_rates([1.0, 0.0, 0.5]) == pytest.approx([2.5 / 3, 0.5 / 3, 1.5 / 3])
    # Two of four are right: each beats two and ties two, (2 + 1) / 4; the others (0 + 1) / 4.
    assert win_rates([1.0, 0.0, 1.0, 0.0]).tolist() == [0.75, 0.25, 0.75, 0.25]
    assert win_rates([0.3]).tolist() == [0.5]
    assert win_rates([0.0] * 3).tolist() == [0.5] * 3
    assert win_rates([]).tolist() == []


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30))
def test_win_rates_sum_to_half_the_group_and_keep_the_order(scores: list[float]):
    rates = win_rates(scores)
    assert rates.sum() == pytest.approx(len(scores) / 2)
    assert ((rates > 0) & (rates < 1)).all()
    for i, a in enumerate(scores):
        for j, b in enumerate(scores):
            assert (rates[i] > rates[j]) == (a > b)


def test_one_pair_worked_by_hand():
    # One of four is right: (3 + 0.5) / 4 = 0.875; a wrong one beats none, ties three: 1.5 / 4.
    # Beaten rollouts with equal tokens count in the rates but are one side.
    group = [
        rollout("a", 11, 0.0, 0.5, 0.5),
        rollout("b", 12, 1.0, 0.5),
        rollout("c", 13, 0.0, 0.5),
        rollout("d", 13, 0.0, 0.5),
        rollout("timeout", 14, None, 0.5),
    ]
    samples = made(*group)
    assert names(samples) == [("b", "c")]
    (pair,) = samples.pairs
    assert (pair.chosen_score, pair.rejected_score) == (0.875, 0.375)
    assert pair.provenance == "win_rate"
    everyone = made(*group, which="all")
    assert names(everyone) == [("b", "a"), ("b", "c")]
    assert everyone.sequences[1].loss_mask.tolist() == [False, False, True, True]
    assert len(made(*group, which="all", max_pairs=1).pairs) == 1


def test_step_scores_decide_where_a_source_is_named():
    # min: 0.5, 0.25, 0.75 -> rates 1.5/3, 0.5/3, 2.5/3. Outcomes say the opposite.
    group = [
        rollout("a", 11, None, 0.5, 1.0),
        rollout("b", 12, 1.0, 0.25),
        rollout("c", 13, 0.0, 0.75, 0.75),
    ]
    samples = made(*group, source="prm", which="all")
    assert names(samples) == [("c", "a"), ("c", "b"), ("a", "b")]
    assert samples.pairs[1].margin == pytest.approx(2 / 3)
    assert samples.sequences[0].step_scores.tolist() == [0.75, 0.75]
    assert names(made(*group, source="prm", which="all", min_margin=0.5)) == [("c", "b")]
    assert WinRatePairs(source="prm").sources == {"prm"}
    assert WinRatePairs().sources == {"outcome"}


def test_no_signal_is_counted():
    a, b = rollout("a", 11, 1.0, 0.5), rollout("b", 12, 1.0, 0.5)
    lost = rollout("c", 13, None, 0.5)
    samples = WinRatePairs().samples([make_group(a, b), make_group(a), make_group(lost)])
    assert (samples.pairs, samples.groups, samples.groups_without_signal) == ((), 0, 3)


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"pairs\.max_pairs is -1; the smallest valid value is 0"):
        WinRatePairs(max_pairs=-1)
    with pytest.raises(ValueError, match=r"pairs\.min_margin is -1; the smallest valid value is 0"):
        WinRatePairs(min_margin=-1)
