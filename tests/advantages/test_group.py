from __future__ import annotations

import math

import numpy as np
import pytest

from rlstep.advantages.assemble import AdvantageBuilder
from rlstep.advantages.group import GroupAdvantages, leave_one_out
from rlstep.advantages.reinforce_pp import ReinforcePlusPlus
from rlstep.advantages.rloo import Rloo
from rlstep.types import AdvantageSamples, Failure, Group, RolloutScore
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


def outcome_group(*outcomes: float, prompt: str = "p") -> Group:
    """Rollouts of one token each."""
    return make_group(
        *(
            make_rollout(f"{prompt}{i}", [[11]], outcome=outcome, prompt=make_prompt(prompt))
            for i, outcome in enumerate(outcomes)
        )
    )


def last(samples: AdvantageSamples) -> list[float]:
    return [row[-1] for row in samples.advantages]


@pytest.mark.parametrize(
    ("std", "expected"),
    # (1, 0): centred 1/2, -1/2; population std 1/2, sample std sqrt(1/2). Leaving one out, the
    # other is equal to itself, so the scale is the group's 1/2: (1 - 0) / (1/2) = 2.
    [("population", 1.0), ("sample", math.sqrt(0.5)), ("none", 0.5), ("leave_one_out", 2.0)],
)
def test_the_standard_deviations(std, expected: float):
    samples = GroupAdvantages(std=std).samples([outcome_group(1, 0)])
    assert last(samples) == pytest.approx([expected, -expected])


def test_leave_one_out_worked_by_hand():
    # 3, 1, 1, 0. Without 3: mean 2/3, variance 2/9, (7/3) / 0.471405 = 4.949747.
    # Without a 1: (3, 1, 0), mean 4/3, variance 14/9, (-1/3) / 1.247219 = -0.267261.
    # Without 0: (3, 1, 1), mean 5/3, variance 8/9, (-5/3) / 0.942809 = -1.767767.
    out = leave_one_out(np.array([3.0, 1.0, 1.0, 0.0]))
    assert out.tolist() == pytest.approx([4.949747, -0.267261, -0.267261, -1.767767], abs=1e-6)
    # 1, 0, 0, 0: the others of the 1 are all equal, so its scale is the group's sqrt(3)/4:
    # 4/sqrt(3) = 2.309401. Of a 0: mean 1/3, variance 2/9, -(1/3) / 0.471405 = -0.707107.
    out = leave_one_out(np.array([1.0, 0.0, 0.0, 0.0]))
    assert out.tolist() == pytest.approx([2.309401, -0.707107, -0.707107, -0.707107], abs=1e-6)
    assert leave_one_out(np.full(7, 0.1)).tolist() == [0.0] * 7
    with pytest.raises(ValueError, match="the only valid value is 'group'"):
        GroupAdvantages(std="leave_one_out", over="batch")


def test_the_std_of_the_batch_and_the_mean_of_the_group():
    # Outcomes (1, 0) and (1, 1, 1, 0): batch mean 2/3, population variance 2/9, std 0.471405.
    # Group means 1/2 and 3/4: (1/2) / std = 1.060660; (1/4) / std = 0.530330, -1.590990.
    groups = [outcome_group(1, 0), outcome_group(1, 1, 1, 0, prompt="q")]
    samples = GroupAdvantages(over="batch").samples(groups)
    expected = [1.060660, -1.060660, *[0.530330] * 3, -1.590990]
    assert last(samples) == pytest.approx(expected, abs=1e-6)
    # A third, always right, is at 0 but makes the std smaller: 7 of 9 right, variance 14/81.
    samples = GroupAdvantages(over="batch").samples([*groups, outcome_group(1, 1, 1, prompt="r")])
    assert last(samples)[0] == pytest.approx(0.5 / math.sqrt(14 / 81))
    assert (samples.groups, samples.groups_without_signal) == (2, 1)


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


def test_groups_without_signal_are_in_the_mean_or_left_out():
    # (1, 0): mean 1/2, std 1/2, so 1 and -1. (1, 1): both 0. Kept, the surrogate's mean over
    # sequences at ratio 1, of |A|: (1 + 1 + 0 + 0) / 4 = 1/2, GRPO's eq. 3; left out: 2 / 2 = 1.
    groups = [outcome_group(1, 0), outcome_group(1, 1, prompt="q")]
    kept = GroupAdvantages().samples(groups)
    assert last(kept) == [1.0, -1.0, 0.0, 0.0] and np.abs(last(kept)).mean() == 0.5
    assert kept.sequences[2].loss_mask.tolist() == [False, False, True]
    out = GroupAdvantages(without_signal="left_out").samples(groups)
    assert last(out) == [1.0, -1.0] and np.abs(last(out)).mean() == 1.0
    for samples in (kept, out):
        assert (samples.groups, samples.groups_without_signal) == (1, 1)
    # Dr. GRPO: 1/2, -1/2, 0, 0.
    assert last(GroupAdvantages(std="none").samples(groups)) == [0.5, -0.5, 0.0, 0.0]


def test_a_batch_without_signal_gives_nothing_and_are_counted():
    groups = [
        make_group(*(make_rollout(f"p{i}", [[11]], outcome=1.0) for i in range(3))),
        make_group(make_rollout("q0", [[11]], outcome=0.0, prompt=make_prompt("q"))),
        make_group(*(make_rollout(f"r{i}", [[11]], outcome=None) for i in range(3))),
    ]
    samples = GroupAdvantages().samples(groups)
    assert samples.sequences == () and samples.advantages == ()
    assert (samples.groups, samples.groups_without_signal) == (0, 3)


@pytest.mark.parametrize("std", ["population", "sample", "none", "leave_one_out"])
def test_equal_values_have_no_signal_even_where_their_mean_is_rounded(std):
    samples = GroupAdvantages(std=std).samples([outcome_group(*[0.1] * 7)])
    assert samples.sequences == () and samples.groups_without_signal == 1


def rewarded(*values: float | None) -> Group:
    """Rollouts of one token, all correct, with a labeller's reward; None is one that failed."""
    scores = [Failure(reason="part_failed") if v is None else RolloutScore(value=v) for v in values]
    return make_group(
        *(
            make_rollout(f"{i}", [[11]], outcome=1.0, scores={"reward": score})
            for i, score in enumerate(scores)
        )
    )


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        # rewards 3, 1, 2 and a failed one: mean 2, without it
        (GroupAdvantages(source="reward", std="none"), [1.0, -1.0]),
        # the mean of the other two: 3 - 3/2 = 3/2, 1 - 5/2 = -3/2, 2 - 2 = 0
        (Rloo(source="reward"), [1.5, -1.5]),
        # one token each: mean 2, population variance (1 + 1 + 0) / 3
        (ReinforcePlusPlus(source="reward"), [math.sqrt(1.5), -math.sqrt(1.5)]),
    ],
)
def test_a_reward_takes_the_outcomes_place(builder: AdvantageBuilder, expected: list[float]):
    samples = builder.samples([rewarded(3.0, 1.0, None, 2.0)])
    assert isinstance(samples, AdvantageSamples)
    assert builder.sources == {"reward"}
    assert [s.sequence_id for s in samples.sequences] == ["0", "1", "3"]
    assert last(samples) == pytest.approx([*expected, 0.0])


def test_step_scores_are_no_reward():
    group = make_group(make_rollout("a", [[11]], outcome=1.0, scores={"prm": [0.5]}))
    with pytest.raises(TypeError, match="'prm' are StepScores; this estimator reads RolloutScore"):
        GroupAdvantages(source="prm").samples([group])
    with pytest.raises(ValueError, match=r"advantages\.source is ''"):
        GroupAdvantages(source="")
