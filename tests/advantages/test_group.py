from __future__ import annotations

import math

import numpy as np
import pytest

from rlstep.advantages.group import GroupAdvantages, normalise
from rlstep.types import AdvantageSamples
from tests.builders import make_group, make_prompt, make_rollout


def columns(samples: AdvantageSamples) -> list[list[float]]:
    return [row.tolist() for row in samples.advantages]


def test_four_outcomes_worked_by_hand():
    # (1, 0, 0, 0): mean 1/4, population variance (9/16 + 3/16) / 4 = 3/16, std 0.433013.
    # (1 - 1/4) / std = 1.732051, (0 - 1/4) / std = -0.577350.
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0),
        *(make_rollout(f"{i}", [[13]], outcome=0.0) for i in range(3)),
    )
    samples = GroupAdvantages().samples([group])
    assert columns(samples)[0] == pytest.approx([0, 0, math.sqrt(3), math.sqrt(3)])
    assert columns(samples)[1:] == [pytest.approx([0, 0, -1 / math.sqrt(3)])] * 3
    assert [s.sequence_id for s in samples.sequences] == ["a", "0", "1", "2"]
    assert (samples.groups, samples.groups_without_signal) == (1, 0)


@pytest.mark.parametrize(
    ("std", "expected"),
    # (1, 0): centred 1/2, -1/2; population std 1/2, sample std sqrt(1/2).
    [("population", 1.0), ("sample", math.sqrt(0.5)), ("none", 0.5)],
)
def test_the_three_standard_deviations(std, expected: float):
    out = normalise(np.array([1, 0], dtype=np.float32), std)
    assert out is not None and out.tolist() == pytest.approx([expected, -expected])


def test_ragged_group_with_a_failure_and_a_branch():
    # The failed verification is in no mean: (1, 0) gives 1 and -1. The branch inherited one token,
    # which its parent trains, so only its second token carries the -1.
    group = make_group(
        make_rollout("a", [[11], [12, 13]], outcome=1.0),
        make_rollout("x", [[14]], outcome=None),
        make_rollout("b", [[11], [15]], outcome=0.0, parent="a", inherited=1),
    )
    samples = GroupAdvantages().samples([group])
    assert columns(samples) == [[0, 0, 1, 1, 1], [0, 0, 0, -1]]
    assert [s.loss_mask.tolist() for s in samples.sequences] == [
        [False, False, True, True, True],
        [False, False, False, True],
    ]


def test_groups_without_signal_give_nothing_and_are_counted():
    groups = [
        make_group(*(make_rollout(f"p{i}", [[11]], outcome=1.0) for i in range(3))),
        make_group(make_rollout("q0", [[11]], outcome=0.0, prompt=make_prompt("q"))),
        make_group(*(make_rollout(f"r{i}", [[11]], outcome=None) for i in range(3))),
    ]
    samples = GroupAdvantages().samples(groups)
    assert samples.sequences == () and samples.advantages == ()
    assert (samples.groups, samples.groups_without_signal) == (0, 3)


def test_equal_values_have_no_signal_even_where_their_mean_is_rounded():
    assert normalise(np.full(7, 0.1, dtype=np.float32), "population") is None
