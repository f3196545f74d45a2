from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from rlstep.advantages.process import ProcessAdvantages
from rlstep.pairs.outcome import OutcomePairs
from rlstep.types import Group
from rlstep.uncertainty.penalised import Penalised
from tests.builders import make_counts, make_group, make_rollout, make_step_scores
from tests.test_sample_laws import few, groups, same

INNER = OutcomePairs(step_source="prm")


def test_scores_less_k_sigma_worked_by_hand():
    # 0.5 - 2 * 0.125, 0.75 - 2 * 0.5; and 1 - 2 * 0.25.
    right = {"prm": make_step_scores([0.5, 0.75], [0.125, 0.5])}
    wrong = {"prm": make_step_scores([1.0], [0.25])}
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0, scores=right),
        make_rollout("b", [[13]], outcome=0.0, scores=wrong),
    )
    samples = Penalised(of=INNER, source="prm", k=2.0).samples([group])
    assert [s.step_scores.tolist() for s in samples.sequences] == [
        pytest.approx([0.25, -0.25]),
        pytest.approx([0.5]),
    ]
    assert samples.sequences[0].step_scores.dtype == np.float32


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_a_bound_that_cancels_is_nothing_and_no_rounding(value: float):
    rollouts = [
        make_rollout("a", [[11]], outcome=1.0, scores={"prm": make_step_scores([value], value)}),
        make_rollout("b", [[12]], outcome=0.0, scores={"prm": make_step_scores([0.8], 0.8)}),
    ]
    samples = Penalised(of=INNER, source="prm").samples([make_group(*rollouts)])
    assert [s.step_scores.tolist() for s in samples.sequences] == [[0.0], [0.0]]


def test_counts_are_penalised_by_their_posterior():
    # k = 3 of n = 4: 0.75 less the standard deviation of Beta(4, 2), 0.178174.
    scores = {"monte_carlo": make_counts([4], [3])}
    rollouts = [
        make_rollout("a", [[11]], outcome=1.0, scores=scores),
        make_rollout("b", [[12]], outcome=0.0, scores=scores),
    ]
    samples = Penalised(of=OutcomePairs(step_source="monte_carlo")).samples([make_group(*rollouts)])
    assert samples.sequences[0].step_scores.tolist() == pytest.approx([0.571826], abs=1e-6)


@few
@given(group=groups())
def test_no_deviations_change_nothing(group: Group):
    inner = ProcessAdvantages()
    same(Penalised(of=inner, source="prm", k=0.0).samples([group]), inner.samples([group]))


def test_a_source_that_nobody_reads_is_refused():
    with pytest.raises(
        ValueError, match=r"samples\.source is 'urm', but OutcomePairs inside reads"
    ):
        Penalised(of=INNER, source="urm")


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"samples\.k is -1; the smallest valid value is 0"):
        Penalised(k=-1)
    with pytest.raises(ValueError, match=r"samples\.source is ''"):
        Penalised(source="")
