from __future__ import annotations

import pytest

from rlstep.advantages.step_label import StepLabelAdvantages
from rlstep.tensors.labels import Soft
from rlstep.types import Failure
from tests.advantages.test_group import columns
from tests.builders import make_counts, make_group, make_rollout


def test_a_located_error_worked_by_hand():
    # a: the prefix of step 1 is high, that of step 2 low: labels 1, 1, 0, none for step 3.
    # b is right: 1, 1. Five labels with the mean 4/5: 1/5 each, the error -4/5.
    group = make_group(
        make_rollout(
            "a", [[11], [12], [13, 14], [15]], outcome=0.0,
            scores={"monte_carlo": make_counts([0, 1, 1, 0], [0, 1, 0, 0])},
        ),
        make_rollout(
            "b", [[11], [16]], outcome=1.0,
            scores={"monte_carlo": make_counts([0, 1], [0, 1])},
        ),
    )  # fmt: skip
    samples = StepLabelAdvantages().samples([group])
    assert columns(samples)[0] == pytest.approx([0, 0, 0.2, 0.2, -0.8, -0.8, 0.0], abs=1e-6)
    assert columns(samples)[1] == pytest.approx([0, 0, 0.2, 0.2], abs=1e-6)


def test_labels_weigh_as_the_view_says():
    # Soft: 3/4 of 4 and 0 of 2: mean (3 + 0) / 6 = 1/2: 1/4 and -1/2.
    group = make_group(
        make_rollout(
            "a", [[11], [12], [13]], outcome=0.0,
            scores={"monte_carlo": make_counts([4, 2, 0], [3, 0, 0])},
        ),
    )  # fmt: skip
    samples = StepLabelAdvantages(view=Soft()).samples([group])
    assert columns(samples)[0] == pytest.approx([0, 0, 0.25, -0.5, 0.0])


def test_equal_or_missing_labels_give_nothing_and_are_counted():
    nothing = make_counts([0, 0], [0, 0])
    right = make_counts([0, 1], [0, 1])
    groups = [
        make_group(make_rollout("a", [[11], [12]], outcome=0.0, scores={"monte_carlo": nothing})),
        make_group(make_rollout("b", [[11], [12]], outcome=1.0, scores={"monte_carlo": right})),
        make_group(
            make_rollout("c", [[11]], scores={"monte_carlo": Failure(reason="generator_lost")})
        ),
    ]
    samples = StepLabelAdvantages().samples(groups)
    assert (samples.groups, samples.groups_without_signal, samples.sequences) == (0, 3, ())
