from __future__ import annotations

import pytest

from rlstep.pairs.best_worst import BestWorstPairs
from rlstep.types import Failure, Rollout
from tests.builders import make_group, make_rollout
from tests.pairs.test_outcome import names


def rollout(name: str, token: int, outcome: float | None, *scores: float) -> Rollout:
    steps = [[token]] * len(scores)
    return make_rollout(name, steps, outcome=outcome, scores={"prm": scores})


def test_one_pair_worked_by_hand():
    # min: a 0.5, b 0.75, c 0.5, d 0.25. Right are a and b, so b is best; wrong c and d, d is worst.
    group = make_group(
        rollout("a", 11, 1.0, 0.5, 1.0),
        rollout("b", 12, 1.0, 0.75),
        rollout("c", 13, 0.0, 0.5),
        rollout("d", 14, 0.0, 1.0, 0.25, 1.0),
    )
    samples = BestWorstPairs().samples([group])
    assert names(samples) == [("b", "d")]
    (pair,) = samples.pairs
    assert (pair.chosen_score, pair.rejected_score, pair.provenance) == (1.0, 0.0, "best_worst")
    assert [s.step_scores.tolist() for s in samples.sequences] == [[0.75], [1.0, 0.25, 1.0]]
    assert samples.sequences[1].loss_mask.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("aggregate", "best", "worst"),
    [("min", "b", "a"), ("product", "a", "c"), ("last", "c", "a"), ("mean", "a", "b")],
)
def test_equal_outcomes_are_ordered_by_step_scores(aggregate, best: str, worst: str):
    #    min    product               last   mean
    # a  0.25   1 * 0.25 = 0.25       0.25   0.625
    # b  0.5    0.5 * 0.5 = 0.25      0.5    0.5
    # c  0.375  0.375^2 * 1 = 0.141   1      0.583
    scores = {"a": (1.0, 0.25), "b": (0.5, 0.5), "c": (0.375, 0.375, 1.0)}
    group = make_group(
        *(rollout(name, 11 + i, 1.0, *row) for i, (name, row) in enumerate(scores.items()))
    )
    samples = BestWorstPairs(aggregate=aggregate).samples([group])
    assert names(samples) == [(best, worst)]


def test_a_margin_asks_for_the_scores_that_order():
    group = make_group(rollout("a", 11, 1.0, 0.75), rollout("b", 12, 1.0, 0.5))
    (pair,) = BestWorstPairs(min_margin=0.25).samples([group]).pairs
    assert (pair.chosen_score, pair.rejected_score) == (0.75, 0.5)
    assert BestWorstPairs(min_margin=0.5).samples([group]).pairs == ()
    # Outcomes that are too near are not replaced by step scores, which say the opposite here.
    graded = make_group(rollout("a", 11, 0.5, 0.0), rollout("b", 12, 0.25, 1.0))
    assert names(BestWorstPairs().samples([graded])) == [("a", "b")]
    assert BestWorstPairs(min_margin=0.5).samples([graded]).pairs == ()


def test_incomplete_scores_stand_aside_and_no_signal_is_counted():
    failed = make_rollout("f", [[15]], outcome=0.0, scores={"prm": Failure(reason="timeout")})
    a = rollout("a", 11, 1.0, 0.5)
    groups = [
        make_group(a, failed, rollout("u", 12, None, 0.0)),
        make_group(a),
        make_group(a, rollout("a2", 11, 1.0, 0.25)),  # the same tokens
        make_group(a, rollout("b", 12, 1.0, 0.5)),  # all equal
    ]
    samples = BestWorstPairs().samples(groups)
    assert (samples.pairs, samples.groups, samples.groups_without_signal) == ((), 0, 4)


def test_fields():
    assert BestWorstPairs(source="oracle").sources == {"outcome", "oracle"}
    with pytest.raises(ValueError, match=r"pairs\.source is ''; name the step scores"):
        BestWorstPairs(source="")
    with pytest.raises(ValueError, match=r"pairs\.min_margin is -1; the smallest valid value is 0"):
        BestWorstPairs(min_margin=-1)
