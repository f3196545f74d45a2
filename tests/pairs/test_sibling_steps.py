from __future__ import annotations

import pytest

from rlstep.pairs.sibling_steps import SiblingStepPairs
from rlstep.types import Failure, Rollout
from tests.builders import make_counts, make_group, make_rollout
from tests.pairs.test_outcome import names


def rollout(name: str, steps: list[list[int]], *scores: float, **kwargs) -> Rollout:
    return make_rollout(name, steps, scores={"prm": scores}, **kwargs)


def found(*rollouts: Rollout, **kwargs) -> list[tuple[str, str]]:
    return names(SiblingStepPairs(**kwargs).samples([make_group(*rollouts)]))


def test_one_pair_worked_by_hand():
    # After step [11, 12] one goes on with [13, 14] (0.25), the other with [13, 24, 25] (0.75).
    # Prompt tokens are 1, 2; what follows the step is cut off, and no outcome is asked for.
    group = make_group(
        rollout("a", [[11, 12], [13, 14], [15]], 0.5, 0.25, 1.0),
        rollout("b", [[11, 12], [13, 24, 25]], 0.5, 0.75, parent="a", inherited=2),
    )
    samples = SiblingStepPairs().samples([group])
    assert names(samples) == [("b[2:5]", "a[2:4]")]
    chosen, rejected = samples.sequences
    assert chosen.token_ids.tolist() == [1, 2, 11, 12, 13, 24, 25]
    assert chosen.loss_mask.tolist() == [False] * 4 + [True] * 3
    assert chosen.step_index.tolist() == [-1, -1, 0, 0, 1, 1, 1]
    assert rejected.token_ids.tolist() == [1, 2, 11, 12, 13, 14]
    assert rejected.loss_mask.tolist() == [False] * 4 + [True] * 2
    (pair,) = samples.pairs
    assert (pair.chosen_score, pair.rejected_score) == (0.75, 0.25)
    assert (pair.shared_prefix, pair.provenance) == (5, "sibling_steps")  # 13 opens both steps


def test_every_prefix_gives_pairs_of_its_own():
    rollouts = [
        rollout("a", [[11], [12], [13]], 0.5, 0.75, 0.0),
        rollout("b", [[11], [12], [14]], 0.5, 0.75, 1.0),
        rollout("c", [[11], [15]], 0.5, 0.25),
        rollout("d", [[16], [15]], 0.75, 1.0),
        rollout("e", [[17]], 0.0),
    ]
    # First steps: 16 (0.75), 11 (0.5), 17 (0). After 11: 12 (0.75), 15 (0.25). Then 14 and 13.
    best_worst = [("d[0:1]", "e"), ("a[1:2]", "c[1:2]"), ("b[2:3]", "a[2:3]")]
    assert found(*rollouts) == best_worst
    assert found(*rollouts, which="best_second") == [("d[0:1]", "a[0:1]"), *best_worst[1:]]
    assert found(*rollouts, which="all") == [
        ("d[0:1]", "a[0:1]"),
        ("d[0:1]", "e"),
        ("a[0:1]", "e"),
        *best_worst[1:],
    ]
    assert found(*rollouts, min_margin=0.75) == [best_worst[0], best_worst[2]]
    assert found(*rollouts, max_pairs=1) == best_worst[:1]


def test_a_step_that_only_begins_the_other_is_no_different_step():
    assert found(rollout("a", [[11, 12]], 1.0), rollout("b", [[11], [12]], 0.0, 0.0)) == []


@pytest.mark.parametrize(
    "score",
    [Failure(reason="timeout"), make_counts([4, 0], [4, 0])],
    ids=["failed", "unlabelled"],
)
def test_a_step_without_a_score_stands_aside(score):
    a = make_rollout("a", [[11], [12]], scores={"monte_carlo": score})
    b = make_rollout("b", [[11], [13]], scores={"monte_carlo": make_counts([4, 4], [4, 0])})
    assert found(a, b, source="monte_carlo") == []
    # Whoever took the same step and has a label speaks for it.
    c = make_rollout("c", [[11], [12]], scores={"monte_carlo": make_counts([0, 4], [0, 2])})
    assert found(a, b, c, source="monte_carlo") == [("c[1:2]", "b[1:2]")]


def test_no_signal_is_counted():
    a, b = rollout("a", [[11]], 0.5), rollout("b", [[12]], 0.5)
    samples = SiblingStepPairs().samples([make_group(a, b), make_group(a)])
    assert (samples.pairs, samples.groups, samples.groups_without_signal) == ((), 0, 2)


def test_fields():
    assert SiblingStepPairs(source="monte_carlo").sources == {"monte_carlo"}
    with pytest.raises(ValueError, match=r"pairs\.source is ''"):
        SiblingStepPairs(source="")
    with pytest.raises(ValueError, match=r"pairs\.max_pairs is -1; the smallest valid value is 0"):
        SiblingStepPairs(max_pairs=-1)
    with pytest.raises(ValueError, match=r"pairs\.min_margin is -1; the smallest valid value is 0"):
        SiblingStepPairs(min_margin=-1)
