from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.measuring.metrics import (
    ReliabilityBin,
    accuracy,
    calibration_error,
    reliability_curve,
    roc_auc,
    rollout_metrics,
)
from rlstep.types import Failure, Group, OutcomeScore, RolloutScore, Verdict, Votes
from tests.builders import make_counts, make_group, make_prompt, make_rollout, make_token_scores


def test_auc_with_ties_worked_by_hand():
    # Positives 0.8, 0.5, 0.5; negatives 0.5, 0.2. The six comparisons, positive against negative:
    # 0.8 > 0.5, 0.8 > 0.2, 0.5 = 0.5 (1/2), 0.5 > 0.2, 0.5 = 0.5 (1/2), 0.5 > 0.2: 5 of 6.
    scores, labels = [0.8, 0.5, 0.5, 0.5, 0.2], [True, True, True, False, False]
    assert roc_auc(scores, labels) == pytest.approx(5 / 6)


def test_auc_of_perfect_reversed_and_constant_scores():
    labels = [False, False, True]
    assert roc_auc([1, 2, 3], labels) == 1.0
    assert roc_auc([3, 2, 1], labels) == 0.0
    assert roc_auc([7, 7, 7], labels) == 0.5


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_ordered_comparisons(rows):
    positives = [score for score, label in rows if label]
    negatives = [score for score, label in rows if not label]
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    if not (positives and negatives):
        with pytest.raises(ValueError, match="at least 1 of each"):
            roc_auc(scores, labels)
        return
    wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    assert roc_auc(scores, labels) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_auc_refuses_what_has_no_order(bad: float):
    with pytest.raises(ValueError, match="scores: not finite"):
        roc_auc([0.1, bad], [True, False])


def test_reliability_worked_by_hand():
    # Of two bins, [0, 1/2) holds 0.1 and 0.3 (one positive), [1/2, 1] holds 0.5, 0.9 and 1 (two):
    # means 0.2 against 1/2 and 0.8 against 2/3. ECE = (2 * 0.3 + 3 * 2/15) / 5 = 0.2.
    curve = reliability_curve([0.1, 0.9, 0.3, 0.5, 1.0], [True, True, False, False, True], bins=2)
    assert [(each.low, each.number) for each in curve] == [(0.0, 2), (0.5, 3)]
    assert [each.score for each in curve] == pytest.approx([0.2, 0.8])
    assert [each.share for each in curve] == pytest.approx([1 / 2, 2 / 3])
    assert calibration_error(curve) == pytest.approx(0.2)


def test_empty_bins_are_left_out():
    assert reliability_curve([0.95, 1.0], [True, True]) == (
        ReliabilityBin(low=0.9, score=0.975, share=1.0, number=2),
    )
    assert reliability_curve([], []) == ()
    with pytest.raises(ValueError, match="curve: no bin"):
        calibration_error([])


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_calibration_is_about_probabilities(bad: float):
    with pytest.raises(ValueError, match=r"scores: not all in \[0, 1\]"):
        reliability_curve([bad], [True])


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_error_of_one_bin_is_the_bias(rows):
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    error = calibration_error(reliability_curve(scores, labels, bins=1))
    assert error == pytest.approx(abs(np.mean(scores) - np.mean(labels)))
    # Parts can only tell more apart.
    assert calibration_error(reliability_curve(scores, labels)) >= error - 1e-12


def solved(prompt_id: str, *outcomes: float | None) -> Group:
    prompt = make_prompt(prompt_id)
    names = [f"0/{prompt_id}/{index}" for index in range(len(outcomes))]
    return make_group(
        *(
            make_rollout(name, [[11], [12, 13]], outcome=outcome, prompt=prompt)
            for name, outcome in zip(names, outcomes, strict=True)
        )
    )


def test_accuracy_worked_by_hand():
    # Means of the problems: 1/2, 1, 0 -> mean 1/2; deviations 0, 1/2, -1/2, so the sample variance
    # is (1/4 + 1/4) / 2 = 1/4 and the standard error sqrt(1/4 / 3) = 0.288675.
    measured = accuracy([solved("a", 1, 0), solved("b", 1), solved("c", 0, 0, 0)])
    assert measured is not None
    assert (measured.value, measured.problems) == (0.5, 3)
    assert measured.standard_error == pytest.approx(0.288675, abs=1e-6)


def test_a_failed_verification_is_neither_correct_nor_wrong():
    measured = accuracy([solved("a", 1.0, None), solved("b", None)])
    assert measured is not None
    assert (measured.value, measured.problems, measured.standard_error) == (1.0, 1, None)
    assert accuracy([solved("a", None)]) is None


def test_branches_do_not_count_into_the_accuracy():
    root = make_rollout("r", [[11], [12]], outcome=0.0)
    branch = make_rollout("r/b", [[11], [13]], outcome=1.0, parent="r", inherited=1)
    measured = accuracy([make_group(root, branch)])
    assert measured is not None and measured.value == 0.0


def test_rollout_metrics_worked_by_hand():
    unparsable = OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
    prompt = make_prompt("a")
    monte_carlo = make_counts(n=[4, 0], k=[1, 0])  # the second step is not labelled
    right = make_rollout(
        "0/a/0", [[1, 2], [3]], outcome=1.0, prompt=prompt, scores={"prm": [0.5, 1.0]}
    )
    lost = make_rollout(
        "0/a/1", [[4], [5]], prompt=prompt, scores={"prm": [0.0, 0.1], "mc": monte_carlo}
    ).with_scores(outcome=unparsable)
    lost = replace(lost, completion=replace(lost.completion, finish_reason="length"))
    old = make_rollout("0/b/0", [[6]], prompt=make_prompt("b"), versions=[(3, 0, 1)])
    groups = [
        make_group(right, lost),
        Group(prompt=old.prompt, rollouts=(old,), failures=(Failure(reason="generator_lost"),) * 2),
    ]

    metrics = rollout_metrics(groups, version=4)

    expected = {
        "groups": 2,
        "rollouts": 3,
        "accuracy": 0.5,  # of problem a; b has no verdict
        "problems": 1,
        "without_signal": 0.5,  # a has both outcomes, b none
        "tokens": 6,  # 3 + 2 + 1
        "tokens_mean": 2.0,
        "steps_mean": 5 / 3,  # 2, 2, 1
        "truncated": 1 / 3,
        "unparsable": 0.5,  # of two verdicts
        "policy_lag_mean": 3.0,  # 4, 4, 1
        "policy_lag_max": 4,
        "step_score/mc": 0.25,  # 1 of 4
        "step_score/prm": 0.4,  # (0.5 + 1.0 + 0.0 + 0.1) / 4
        "labelled_steps/mc": 1,
        "continuations/mc": 4,
        "failures": 3,
        "failures/generator_lost": 2,
        "failures/timeout": 1,
    }
    assert metrics == {f"rollout/{k}": pytest.approx(v) for k, v in expected.items()}


def test_token_scores_are_averaged_over_the_sampled_tokens():
    talk = make_rollout("a", [[1], [2]], observed={0: [7]})
    talk = talk.with_scores(teacher=make_token_scores([-1.0, 50.0, -2.0]))
    other = make_rollout("b", [[3]]).with_scores(teacher=make_token_scores([0.75]))
    failed = make_rollout("c", [[3]]).with_scores(teacher=Failure(reason="timeout"))
    metrics = rollout_metrics([make_group(talk, other, failed)])
    assert metrics["rollout/token_score/teacher"] == -0.75  # (-1 - 2 + 0.75) / 3


def test_scores_of_whole_rollouts_are_averaged_without_the_failed():
    scores = [RolloutScore(value=0.5), RolloutScore(value=-1.0), Failure(reason="part_failed")]
    group = make_group(
        *(
            make_rollout(f"{i}", [[11]], outcome=1.0, scores={"reward": s})
            for i, s in enumerate(scores)
        )
    )
    metrics = rollout_metrics([group])
    assert metrics["rollout/score/reward"] == -0.25
    assert (metrics["rollout/failures"], metrics["rollout/failures/part_failed"]) == (1, 1)


def test_votes_of_judges_worked_by_hand():
    # Three outcomes of 3 votes each, one without votes and one that failed: 2 + 1 + 0 of 9 tied,
    # 1 of 9 unparsable, 0 + 0 + 1 of 9 failed. Mean value (3/3 + 2.0/3 + 0/2 + 1) / 4.
    counts = [(1.0, (1, 0, 2, 0, 0)), (2 / 3, (1, 0, 1, 1, 0)), (0.0, (0, 2, 0, 0, 1))]
    names = ("correct", "wrong", "tied", "unparsable", "failed")
    judged = [
        make_rollout(f"{i}", [[11]]).with_scores(
            outcome=OutcomeScore(
                value=value,
                verdict=Verdict.CORRECT if value > 0.5 else Verdict.WRONG,
                extracted="",
                votes=Votes(**dict(zip(names, votes, strict=True))),
            )
        )
        for i, (value, votes) in enumerate(counts)
    ]
    others = [make_rollout("v", [[11]], outcome=1.0), make_rollout("f", [[11]], outcome=None)]
    metrics = rollout_metrics([make_group(*judged, *others)])
    shown = {name: value for name, value in metrics.items() if "votes" in name}
    assert shown == {
        "rollout/votes": 9,
        "rollout/votes_tied": pytest.approx(3 / 9),
        "rollout/votes_unparsable": pytest.approx(1 / 9),
        "rollout/votes_failed": pytest.approx(1 / 9),
    }
    assert metrics["rollout/accuracy"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
    assert metrics["rollout/failures/timeout"] == 1


def test_sampled_tokens_leave_out_what_a_branch_inherits():
    branch = make_rollout("r/b", [[11, 12], [13]], outcome=1.0, parent="r", inherited=2)
    metrics = rollout_metrics([make_group(branch)], prefix="eval")
    assert (metrics["eval/tokens"], metrics["eval/tokens_mean"]) == (1, 3.0)


def test_an_empty_batch_has_nothing_to_average():
    assert rollout_metrics([]) == {
        "rollout/groups": 0,
        "rollout/rollouts": 0,
        "rollout/failures": 0,
    }


def test_permuting_a_group_changes_nothing():
    group = solved("a", 1.0, 0.0, None)
    reverse = replace(group, rollouts=group.rollouts[::-1])
    assert rollout_metrics([group]) == rollout_metrics([reverse])
