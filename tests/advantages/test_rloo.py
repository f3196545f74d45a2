from __future__ import annotations

import pytest

from rlstep.advantages.rloo import Rloo
from tests.advantages.test_group import columns, last, outcome_group
from tests.builders import make_group, make_rollout


def test_four_outcomes_worked_by_hand():
    # (1, 0, 0, 1): 1 - 1/3 and 0 - 2/3.
    samples = Rloo().samples([outcome_group(1, 0, 0, 1)])
    assert last(samples) == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_ragged_group_with_a_failure_and_a_branch():
    # (0.5, 0, 1) without the failed one: 0.5 - 0.5, 0 - 0.75, 1 - 0.25.
    group = make_group(
        make_rollout("a", [[11], [12, 13]], outcome=0.5),
        make_rollout("x", [[14]]),
        make_rollout("b", [[11], [15]], outcome=0.0, parent="a", inherited=1),
        make_rollout("c", [[16]], outcome=1.0),
    )
    samples = Rloo().samples([group])
    assert columns(samples) == [[0] * 5, [0, 0, 0, -0.75], [0, 0, 0.75]]
    assert samples.sequences[0].loss_mask.sum() == 3  # trained, with advantage 0


def test_no_others_no_signal():
    samples = Rloo().samples([outcome_group(1), outcome_group(0.1, 0.1, 0.1, prompt="q")])
    assert samples.sequences == () and samples.groups_without_signal == 2
