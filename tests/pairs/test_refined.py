from __future__ import annotations

import pytest

from rlstep.pairs.refined import RefinedPairs
from rlstep.types import Rollout
from tests.builders import make_group, make_rollout
from tests.pairs.test_outcome import names


def parent(outcome: float | None = 0.0, *scores: float) -> Rollout:
    return make_rollout("p", [[11, 12], [13], [14]], outcome=outcome, scores={"prm": scores})


def branch(
    name: str, *steps: list[int], outcome: float | None = 1.0, inherited: int = 2, of: str = "p"
) -> Rollout:
    return make_rollout(name, list(steps), outcome=outcome, parent=of, inherited=inherited)


def found(*rollouts: Rollout, **kwargs) -> list[tuple[str, str]]:
    return names(RefinedPairs(**kwargs).samples([make_group(*rollouts)]))


def test_one_pair_worked_by_hand():
    # Inherited are 11, 12, and the branch then says 13 again: training starts after that.
    samples = RefinedPairs().samples([make_group(parent(), branch("b", [11, 12], [13, 24], [25]))])
    assert names(samples) == [("b[3:5]", "p[3:4]")]
    chosen, rejected = samples.sequences
    assert chosen.token_ids.tolist() == [1, 2, 11, 12, 13, 24, 25]
    assert chosen.loss_mask.tolist() == [False] * 5 + [True] * 2
    assert rejected.token_ids.tolist() == [1, 2, 11, 12, 13, 14]
    assert rejected.loss_mask.tolist() == [False] * 5 + [True]
    (pair,) = samples.pairs
    assert (pair.chosen_score, pair.rejected_score, pair.shared_prefix) == (1.0, 0.0, 5)
    assert pair.provenance == "refined"


def test_a_refinement_of_the_whole_shares_nothing():
    assert found(parent(), branch("b", [21], [22], inherited=0)) == [("b", "p")]


def test_a_chain_of_refinements_pairs_each_with_the_one_before_it():
    half = branch("b", [11, 12], [23], outcome=0.5)
    full = branch("c", [11, 12], [24], outcome=1.0, of="b")
    assert found(parent(), half, full) == [("b[2:3]", "p[2:4]"), ("c[2:3]", "b[2:3]")]
    assert found(parent(), half, full, min_margin=0.75) == []


@pytest.mark.parametrize(
    "unfit",
    [
        branch("no better", [11, 12], [23], outcome=0.0),
        branch("unverified", [11, 12], [23], outcome=None),
        branch("of another", [11, 12], [23], of="q"),
        branch("the same", [11, 12], [13, 14]),
        branch("only its beginning", [11, 12], [13]),
        make_rollout("no branch", [[23]], outcome=1.0),
    ],
    ids=lambda rollout: rollout.rollout_id,
)
def test_what_is_no_refinement(unfit: Rollout):
    samples = RefinedPairs().samples([make_group(parent(), unfit)])
    assert (samples.pairs, samples.groups_without_signal) == ((), 1)
    assert found(parent(None), branch("b", [23])) == []


def test_step_scores_may_decide():
    # min: 0.5 before, 0.75 after; last: 1.0 before, 0.75 after. Nobody asks for outcomes.
    before = parent(None, 0.5, 0.75, 1.0)
    after = make_rollout(
        "b", [[11, 12], [23]], scores={"prm": [1.0, 0.75]}, parent="p", inherited=2
    )
    (pair,) = RefinedPairs(source="prm").samples([make_group(before, after)]).pairs
    assert (pair.chosen_score, pair.rejected_score) == (0.75, 0.5)
    assert found(before, after, source="prm", aggregate="last") == []
    assert RefinedPairs(source="prm").sources == {"prm"}
    assert RefinedPairs().sources == {"outcome"}


def test_two_branches_that_say_the_same_are_one():
    twins = [branch(name, [11, 12], [23]) for name in "bc"]
    assert found(parent(), *twins) == [("b[2:3]", "p[2:4]")]
    other = branch("d", [11, 12], [24])
    assert len(found(parent(), *twins, other)) == 2
    assert found(parent(), *twins, other, max_pairs=1) == [("b[2:3]", "p[2:4]")]


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"pairs\.max_pairs is -1; the smallest valid value is 0"):
        RefinedPairs(max_pairs=-1)
    with pytest.raises(ValueError, match=r"pairs\.min_margin is -1; the smallest valid value is 0"):
        RefinedPairs(min_margin=-1)
