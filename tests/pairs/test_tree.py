from __future__ import annotations

import pytest

from rlstep.pairs.tree import TreePairs
from rlstep.types import PairSamples, Rollout
from tests.builders import make_group, make_rollout
from tests.pairs.test_outcome import names


def rollouts() -> list[Rollout]:
    """First steps [11, 12]: outcomes 1, 1, 0; [11, 13, 14]: 0, 0; [15]: 0.5 alone."""
    return [
        make_rollout("a", [[11, 12], [21]], outcome=0.0),
        make_rollout("b", [[11, 12], [22], [23]], outcome=1.0),
        make_rollout("c", [[11, 12], [22], [24]], outcome=1.0),
        make_rollout("d", [[11, 13, 14], [25]], outcome=0.0),
        make_rollout("e", [[11, 13, 14], [26, 27]], outcome=0.0),
        make_rollout("f", [[15]], outcome=0.5),
    ]


def made(*given: Rollout, **kwargs) -> PairSamples:
    return TreePairs(**kwargs).samples([make_group(*given)])


def test_pairs_worked_by_hand():
    # At the root: 2/3 (3 visits), 0 (2 visits), 0.5 (1 visit): best [11, 12], worst [11, 13, 14].
    # After [11, 12]: [22] 1 (2 visits) against [21] 0. After [22] and after [11, 13, 14] all equal.
    samples = made(*rollouts())
    assert names(samples) == [("b[1:2]", "d[1:3]"), ("b[2:3]", "a[2:3]")]
    root, deeper = samples.pairs
    assert (root.chosen_score, root.rejected_score) == (pytest.approx(2 / 3), 0.0)
    assert (deeper.chosen_score, deeper.rejected_score) == (1.0, 0.0)
    assert (root.shared_prefix, deeper.shared_prefix) == (3, 4)  # prompt 1, 2 and then 11 (, 12)
    assert {p.provenance for p in samples.pairs} == {"tree"}
    assert samples.groups == 1


def test_the_first_differing_token_is_trained_and_nothing_before_it():
    samples = made(*rollouts())
    chosen, rejected = samples.sequences[:2]
    assert chosen.token_ids.tolist() == [1, 2, 11, 12]
    assert chosen.loss_mask.tolist() == [False, False, False, True]
    assert rejected.token_ids.tolist() == [1, 2, 11, 13, 14]
    assert rejected.loss_mask.tolist() == [False, False, False, True, True]
    for pair in samples.pairs:
        for side in (pair.chosen, pair.rejected):
            assert samples.sequences[side].loss_mask.tolist().index(True) == pair.shared_prefix


def test_to_the_completions_end_with_the_best_and_the_worst_leaf():
    samples = made(*rollouts(), end="completion")
    assert names(samples) == [("b[1:4]", "d[1:4]"), ("b[2:4]", "a[2:3]")]
    chosen, rejected = samples.sequences[:2]
    assert chosen.token_ids.tolist() == [1, 2, 11, 12, 22, 23]
    assert chosen.loss_mask.tolist() == [False] * 3 + [True] * 3
    assert rejected.loss_mask.tolist() == [False] * 3 + [True] * 3
    # A right leaf below the rejected sibling is not what is rejected.
    low = [
        make_rollout("x", [[11], [12]], outcome=1.0),
        make_rollout("y", [[13], [14]], outcome=0.0),
        make_rollout("z", [[13], [15]], outcome=1.0),
    ]
    assert names(made(*low, end="completion"))[0] == ("x", "y")


def test_which_siblings():
    # The second best at the root is [15].
    samples = made(*rollouts(), which="best_second")
    assert names(samples)[0] == ("b[0:2]", "f")
    second = samples.pairs[0]
    assert (second.chosen_score, second.rejected_score) == (pytest.approx(2 / 3), 0.5)
    scores = {(p.chosen_score, p.rejected_score) for p in made(*rollouts(), which="all").pairs}
    assert scores == {(2 / 3, 0.0), (2 / 3, 0.5), (0.5, 0.0), (1.0, 0.0)}
    assert len(made(*rollouts(), min_margin=0.75).pairs) == 1
    assert len(made(*rollouts(), which="all", max_pairs=2).pairs) == 2


def test_of_equal_values_the_more_visited_is_the_better():
    once = make_rollout("a", [[11]], outcome=1.0)
    twice = [make_rollout(name, [[12], [n]], outcome=1.0) for n, name in enumerate("bc", 20)]
    bad = make_rollout("d", [[13]], outcome=0.0)
    assert names(made(once, *twice, bad)) == [("b[0:1]", "d")]


def test_rarely_visited_siblings_stand_aside():
    assert len(made(*rollouts(), min_visits=2).pairs) == 1  # [21] has one leaf
    assert made(*rollouts(), min_visits=3).pairs == ()


def test_a_leaf_without_an_outcome_is_no_visit():
    good = make_rollout("b", [[11], [12]], outcome=1.0)
    bad = make_rollout("c", [[13]], outcome=0.0)
    lost = make_rollout("a", [[11], [14]], outcome=None)
    (pair,) = made(good, bad, lost).pairs
    assert (pair.chosen_score, pair.rejected_score) == (1.0, 0.0)
    assert made(lost, bad).pairs == ()


def test_repeated_rollouts_are_visits():
    # [11] is right twice in the same words and wrong once: 2/3.
    again = [make_rollout(name, [[11], [12]], outcome=1.0) for name in "ab"]
    wrong = make_rollout("c", [[11], [13]], outcome=0.0)
    other = make_rollout("d", [[14]], outcome=0.0)
    assert made(*again, wrong, other).pairs[0].chosen_score == pytest.approx(2 / 3)


def test_a_step_that_only_begins_its_sibling_gives_no_pair():
    longer = make_rollout("a", [[11, 12]], outcome=1.0)
    assert made(longer, make_rollout("b", [[11], [12]], outcome=0.0)).pairs == ()
    # To the completion's end they do part: after 11, 12 comes 13.
    further = make_rollout("c", [[11], [14]], outcome=0.0)
    assert names(made(longer, further, end="completion")) == [("a[1:2]", "c[1:2]")]


def test_no_signal_is_counted():
    equal = [make_rollout(name, [[n]], outcome=1.0) for n, name in enumerate("ab", 11)]
    samples = TreePairs().samples([make_group(*equal), make_group(equal[0])])
    assert (samples.pairs, samples.groups, samples.groups_without_signal) == ((), 0, 2)


def test_fields():
    assert TreePairs().sources == {"outcome"}
    with pytest.raises(ValueError, match=r"pairs\.min_visits is 0; the smallest valid value is 1"):
        TreePairs(min_visits=0)
    with pytest.raises(ValueError, match=r"pairs\.max_pairs is -1; the smallest valid value is 0"):
        TreePairs(max_pairs=-1)
    with pytest.raises(ValueError, match=r"pairs\.min_margin is -1; the smallest valid value is 0"):
        TreePairs(min_margin=-1)
