from __future__ import annotations

import pytest

from rlstep.advantages.process import ProcessAdvantages
from rlstep.types import Failure
from tests.advantages.test_group import columns
from tests.builders import make_counts, make_group, make_prompt, make_rollout


def test_two_rollouts_worked_by_hand():
    # Scores (1, 0) and (1): mean 2/3, population std sqrt(2/9) = 0.471405, normalised
    # (0.707107, -1.414214) and (0.707107); suffix sums (-0.707107, -1.414214) and (0.707107).
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=0.0, scores={"prm": [1, 0]}),
        make_rollout("b", [[13]], outcome=1.0, scores={"prm": [1]}),
    )
    samples = ProcessAdvantages().samples([group])
    assert columns(samples)[0] == pytest.approx([0, 0, -0.707107, -1.414214], abs=1e-6)
    assert columns(samples)[1] == pytest.approx([0, 0, 0.707107], abs=1e-6)
    # Sample std sqrt(1/3) = 0.577350: (0.577350, -1.154701), suffix sums (-0.577350, -1.154701).
    sample = ProcessAdvantages(std="sample").samples([group])
    assert columns(sample)[0] == pytest.approx([0, 0, -0.577350, -1.154701], abs=1e-6)


def test_a_step_may_be_paid_for_itself_alone():
    # Normalised (0.707107, -1.414214) and (0.707107) as above; at gamma 0.5 the first step gets
    # 0.707107 - 0.5 * 1.414214 = 0, at 0 its own.
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=0.0, scores={"prm": [1, 0]}),
        make_rollout("b", [[13]], outcome=1.0, scores={"prm": [1]}),
    )
    half, alone = (columns(ProcessAdvantages(gamma=g).samples([group])) for g in (0.5, 0.0))
    assert half[0] == pytest.approx([0, 0, 0.0, -1.414214], abs=1e-6)
    assert alone[0] == pytest.approx([0, 0, 0.707107, -1.414214], abs=1e-6)
    assert half[1] == alone[1] == pytest.approx([0, 0, 0.707107], abs=1e-6)
    with pytest.raises(ValueError, match=r"advantages\.gamma"):
        ProcessAdvantages(gamma=1.5)


def test_ragged_steps_failures_and_a_branch():
    # Pool (4, 0, 2) and (2): mean 2, no std: (2, -2, 0) and (0); suffix sums (0, -2, 0) and (0).
    # Steps of 1, 2 and 1 tokens; the first was inherited, so it is not trained here. The rollouts
    # without complete scores are in no mean; a verifier's failure changes nothing.
    group = make_group(
        make_rollout(
            "a", [[11], [12, 13], [14]], scores={"prm": [4, 0, 2]}, parent="b", inherited=1
        ),
        make_rollout("x", [[15]], outcome=1.0, scores={"prm": Failure(reason="timeout")}),
        make_rollout("y", [[15]], outcome=1.0, scores={"prm": make_counts([0], [0])}),
        make_rollout("b", [[16]], outcome=1.0, scores={"prm": [2]}),
    )
    samples = ProcessAdvantages(std="none").samples([group])
    assert columns(samples) == [[0, 0, 0, -2, -2, 0], [0, 0, 0]]
    assert samples.sequences[0].loss_mask.tolist() == [False] * 3 + [True] * 3


def test_equal_or_missing_scores_give_nothing_and_are_counted():
    groups = [
        make_group(make_rollout("a", [[11], [12]], outcome=1.0, scores={"prm": [0.5, 0.5]})),
        make_group(make_rollout("b", [[11]], outcome=1.0)),
    ]
    samples = ProcessAdvantages().samples(groups)
    assert samples.sequences == ()
    assert (samples.groups, samples.groups_without_signal) == (0, 2)


def test_groups_with_equal_scores_are_in_the_mean_or_left_out():
    # Scores (1) and (0): 1 and -1. The other prompt's are all 1: 0 each, and in the mean, so the
    # mean of |A| over the rollouts is (1 + 1 + 0 + 0) / 4; left out it is 1.
    groups = [
        make_group(
            make_rollout("a", [[11]], outcome=1.0, scores={"prm": [1]}),
            make_rollout("b", [[11]], outcome=0.0, scores={"prm": [0]}),
        ),
        make_group(
            *(
                make_rollout(f"c{i}", [[11], [12]], prompt=make_prompt("q"), scores={"prm": [1, 1]})
                for i in range(2)
            )
        ),
    ]
    kept = ProcessAdvantages().samples(groups)
    assert [row[-1] for row in columns(kept)] == [1, -1, 0, 0]
    assert (kept.groups, kept.groups_without_signal) == (1, 1)
    out = ProcessAdvantages(without_signal="left_out").samples(groups)
    assert [row[-1] for row in columns(out)] == [1, -1]
    assert (out.groups, out.groups_without_signal) == (1, 1)


def test_source():
    assert ProcessAdvantages(source="oracle").sources == {"oracle"}
    with pytest.raises(ValueError, match=r"advantages\.source is ''"):
        ProcessAdvantages(source="")
