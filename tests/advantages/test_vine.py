from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from rlstep.advantages.vine import Vine
from rlstep.types import Group
from tests.advantages.test_group import columns
from tests.builders import make_counts, make_group, make_rollout
from tests.test_sample_laws import groups


def valued(name: str, outcome: float, values: list[float], steps: Any = None, **fields: Any):
    """A rollout of one-token steps with values in quarters."""
    counts = make_counts([4] * len(values), [round(4 * value) for value in values])
    steps = steps or [[11]] * len(values)
    return make_rollout(name, steps, outcome=outcome, scores={"monte_carlo": counts}, **fields)


def test_three_steps_worked_by_hand():
    # V(s_0) = mean of (0, 1) = 1/2; after steps 0 and 1: 3/4 and 1/4; the outcome is 0, and what
    # Monte Carlo says after the last step is not read. A = (1/4, -1/2, -1/4), which add up to
    # outcome - V(s_0). The other rollout: 1 - 1/2.
    group = make_group(valued("a", 0.0, [0.75, 0.25, 1.0]), valued("b", 1.0, [0.0]))
    assert columns(Vine().samples([group])) == [[0, 0, 0.25, -0.5, -0.25], [0, 0, 0.5]]


def test_ragged_steps_a_branch_and_missing_labels():
    # V(s_0) = 1/3: the independent rollouts' (1, 0, 0), also of those that are not trained because
    # a step inside has no label; the branch and the unverified one are not in it. The last step
    # needs no label.
    unlabelled = make_counts([4, 0, 4], [2, 0, 2])
    group = make_group(
        valued("a", 1.0, [0.5, 0.0], steps=[[11, 12], [13]]),
        make_rollout("m", [[1], [2], [3]], outcome=0.0, scores={"monte_carlo": unlabelled}),
        make_rollout("x", [[14]], scores={"monte_carlo": [0.5]}),
        make_rollout("c", [[15]], outcome=0.0, scores={"monte_carlo": make_counts([0], [0])}),
        valued("b", 1.0, [0.25, 0.0], steps=[[11, 12], [16, 17]], parent="a", inherited=2),
    )
    samples = Vine().samples([group])
    assert [s.sequence_id for s in samples.sequences] == ["a", "c", "b[2:4]"]
    third = 1 / 3
    assert columns(samples)[0] == pytest.approx([0, 0, 0.5 - third, 0.5 - third, 0.5])
    assert columns(samples)[1] == pytest.approx([0, 0, -third])
    assert columns(samples)[2] == [0, 0, 0, 0, 0.75, 0.75]


@settings(max_examples=25)
@given(group=groups(branches=False, step_tokens=1))
def test_advantages_add_up_to_the_outcome(group: Group):
    """Whatever the values in between: outcome - V(s_0)."""
    outcomes = [r.outcome.value for r in group.rollouts if r.outcome is not None]
    by_id = {r.rollout_id: r for r in group.rollouts}
    samples = Vine().samples([group])
    for s, column in zip(samples.sequences, samples.advantages, strict=True):
        outcome = by_id[s.sequence_id].outcome
        assert outcome is not None
        assert column.sum() == pytest.approx(outcome.value - np.mean(outcomes), abs=1e-6)


def test_branches_alone_have_no_first_value():
    group = make_group(valued("b", 1.0, [0.5, 0.5], parent="a", inherited=1))
    assert Vine().samples([group]).groups_without_signal == 1


def test_one_rollout_has_a_signal_of_its_own():
    samples = Vine().samples([make_group(valued("a", 1.0, [0.5, 0.0]))])
    assert columns(samples) == [[0, 0, -0.5, 0.5]]


def test_source():
    assert Vine(source="oracle").sources == {"outcome", "oracle"}
    with pytest.raises(ValueError, match=r"advantages\.source is ''"):
        Vine(source="")
