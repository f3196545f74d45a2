from __future__ import annotations

import pytest

from rlstep.pairs.first_error import FirstErrorPairs, first_error
from rlstep.rollouts.stopping import BetaStopping
from rlstep.types import Failure, Rollout
from tests.builders import make_counts, make_group, make_rollout, make_step_scores
from tests.pairs.test_outcome import names

RIGHT = [11, 12]
WRONG = [13, 14, 15]


def wrong_rollout(**kwargs) -> Rollout:
    """Three steps of which the PRM doubts the second."""
    settings = {"outcome": 0.0, "scores": {"prm": [0.9, 0.2, 0.1]}, **kwargs}
    return make_rollout("w", [RIGHT, WRONG, [16]], **settings)


def branch(name: str, *steps: list[int], **kwargs) -> Rollout:
    """A correct continuation after the right step."""
    settings = {"outcome": 1.0, "parent": "w", "inherited": 2, **kwargs}
    return make_rollout(name, [RIGHT, *steps], **settings)


def found(*rollouts: Rollout, **kwargs) -> list[tuple[str, str]]:
    return names(FirstErrorPairs(**kwargs).samples([make_group(*rollouts)]))


def test_one_pair_worked_by_hand():
    # First score under 0.5: step 1 (completion tokens 2..4). The branch keeps step 0 and takes
    # tokens 13, 24 as its step 1. Prompt tokens are 1, 2; both sides are cut after step 1.
    group = make_group(wrong_rollout(), branch("b", [13, 24], [25]))
    samples = FirstErrorPairs().samples([group])
    chosen, rejected = (samples.sequences[i] for i in (0, 1))
    assert chosen.token_ids.tolist() == [1, 2, 11, 12, 13, 24]
    assert chosen.loss_mask.tolist() == [False] * 4 + [True] * 2
    assert chosen.step_index.tolist() == [-1, -1, 0, 0, 1, 1]
    assert rejected.token_ids.tolist() == [1, 2, 11, 12, 13, 14, 15]
    assert rejected.loss_mask.tolist() == [False] * 4 + [True] * 3
    (pair,) = samples.pairs
    assert (pair.chosen, pair.rejected, pair.provenance, pair.margin) == (0, 1, "first_error", 1.0)
    # Prompt 2, step 0 with 2 tokens, and token 13 opens both steps.
    assert pair.shared_prefix == 5
    assert (chosen.sequence_id, rejected.sequence_id) == ("b[2:4]", "w[2:5]")
    assert (samples.groups, samples.groups_without_signal) == (1, 0)


def test_an_error_in_the_first_step_inherits_nothing():
    wrong = make_rollout("w", [[13], [16]], outcome=0.0, scores={"prm": [0.1, 0.9]})
    good = make_rollout("b", [[23], [24]], outcome=1.0, parent="w", inherited=0)
    samples = FirstErrorPairs().samples([make_group(wrong, good)])
    assert [s.token_ids.tolist() for s in samples.sequences] == [[1, 2, 23], [1, 2, 13]]
    assert samples.pairs[0].shared_prefix == 2


def test_every_distinct_rectification_gives_a_pair_over_one_rejected_sequence():
    rollouts = [
        wrong_rollout(),
        branch("b0", [23], [25]),
        branch("b1", [24], [25]),
        branch("b2", [23], [26]),  # the same step as b0
    ]
    assert found(*rollouts) == [("b0[2:3]", "w[2:5]"), ("b1[2:3]", "w[2:5]")]
    assert found(*rollouts, max_pairs=1) == [("b0[2:3]", "w[2:5]")]


def test_the_same_error_in_two_rollouts_is_one_rejected_sequence():
    # w and w2 go wrong in the same way, and so do their rectifications go right: one pair.
    again = make_rollout("w2", [RIGHT, WRONG, [19]], outcome=0.0, scores={"prm": [0.9, 0.2, 0.1]})
    rollouts = [wrong_rollout(), again, branch("b", [23]), branch("b2", [23], parent="w2")]
    assert found(*rollouts) == [("b[2:3]", "w[2:5]")]


@pytest.mark.parametrize(
    "unfit",
    [
        branch("same", WRONG, [25]),
        branch("failed", [23], outcome=0.0),
        branch("unverified", [23], outcome=None),
        branch("other parent", [23], parent="v"),
        branch("no parent", [23], parent=None),
        branch("other place", [23], inherited=1),
        branch("nothing new"),
        make_rollout("cut otherwise", [[11], [12, 23]], outcome=1.0, parent="w", inherited=2),
        branch("scored wrong too", [23], scores={"prm": [0.9, 0.4]}),
    ],
    ids=lambda rollout: rollout.rollout_id,
)
def test_unfit_rectifications_are_never_chosen(unfit: Rollout):
    samples = FirstErrorPairs().samples([make_group(wrong_rollout(), unfit)])
    assert samples.pairs == () and samples.sequences == ()
    assert (samples.groups, samples.groups_without_signal) == (0, 1)


def test_a_rectification_the_source_approves_of_is_kept():
    assert found(wrong_rollout(), branch("b", [23], scores={"prm": [0.9, 0.5]})) != []
    # The prefix may be scored otherwise in the branch; only the new step is asked about.
    assert found(wrong_rollout(), branch("b", [23], scores={"prm": [0.4, 0.9]})) != []


@pytest.mark.parametrize(
    "rollout",
    [
        wrong_rollout(outcome=1.0),
        wrong_rollout(outcome=None),
        wrong_rollout(scores={"prm": Failure(reason="timeout")}),
        wrong_rollout(scores={}),
        wrong_rollout(scores={"prm": [0.9, 0.5, 0.5]}),
    ],
    ids=["correct", "unverified", "scoring failed", "unscored", "no error found"],
)
def test_rollouts_without_a_known_error_give_no_pair(rollout: Rollout):
    assert found(rollout, branch("b", [23])) == []


def test_monte_carlo_scores_find_the_error_too():
    scores = {"monte_carlo": make_counts([8, 8, 0], [3, 0, 0])}
    rollouts = [wrong_rollout(scores=scores), branch("b", [23])]
    assert found(*rollouts, source="monte_carlo", threshold=0.125) == [("b[2:3]", "w[2:5]")]
    assert FirstErrorPairs(source="monte_carlo").sources == {"outcome", "monte_carlo"}


def test_versions_are_those_of_the_trained_step():
    # Step 0 of the parent was written under version 3, its step 1 under 4 and 5, the rest under 6.
    wrong = wrong_rollout(versions=[(3, 0, 2), (4, 2, 3), (5, 3, 5), (6, 5, 6)])
    samples = FirstErrorPairs().samples([make_group(wrong, branch("b", [23]))])
    assert samples.sequences[1].oldest_version == 4


def test_first_error_is_strict_and_skips_unlabelled_steps():
    assert first_error(make_step_scores([0.5, 0.25, 0.0]), 0.5) == 1
    assert first_error(make_step_scores([0.5, 0.5]), 0.5) is None
    assert first_error(make_step_scores([]), 0.5) is None
    assert first_error(make_counts([0, 4, 4], [0, 4, 0]), 0.5) == 2


@pytest.mark.parametrize("n", range(1, 21))
def test_searches_and_pairs_decide_alike_at_any_threshold(n: int):
    for k in range(n + 1):
        for threshold in (k / n, 0.1, 0.3, 0.7, 0.9):
            if threshold > 0:
                low = BetaStopping(threshold=threshold).low(n, k)
                assert (first_error(make_counts([n], [k]), threshold) == 0) == low, (k, threshold)


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"pairs\.source is ''"):
        FirstErrorPairs(source="")
    with pytest.raises(ValueError, match=r"pairs\.max_pairs is -2; the smallest valid value is 0"):
        FirstErrorPairs(max_pairs=-2)
