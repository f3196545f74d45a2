"""What the pair builders share."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.pairs.assemble import (
    Candidate,
    Side,
    Which,
    assemble,
    distinct,
    from_divergence,
    in_order,
    ordered,
    score_of,
)
from rlstep.types import Failure, Sequence
from tests.builders import make_counts, make_group, make_rollout, make_sequence


@dataclass(frozen=True)
class Item:
    name: str
    score: float


def order(scores: dict[str, float], which: Which = "all", margin: float = 0.0) -> list[str]:
    pairs = ordered([Item(name, score) for name, score in scores.items()], which, margin)
    return [f"{better.name}>{worse.name}" for better, worse in pairs]


def test_which_pairs_worked_by_hand():
    scores = {"a": 0.5, "b": 1.0, "c": 0.0, "d": 1.0, "e": 0.0}
    # b and d tie above a, above c and e, which tie.
    assert order(scores) == ["b>a", "b>c", "b>e", "d>a", "d>c", "d>e", "a>c", "a>e"]
    assert order(scores, "best_worst") == ["b>e"]  # of the worst the last
    assert order(scores, "best_second") == ["b>a"]  # d is no second best: it ties
    assert order(scores, margin=0.75) == ["b>c", "b>e", "d>c", "d>e"]
    assert order(scores, "best_second", 0.75) == []


@pytest.mark.parametrize("which", ["all", "best_worst", "best_second"])
def test_nothing_to_order(which: Which):
    assert order({}, which) == order({"a": 0.0}, which) == order({"a": 0.0, "b": 0.0}, which) == []


@given(scores=st.lists(st.integers(0, 4), max_size=8))
def test_all_pairs_are_all_strict_inequalities(scores: list[int]):
    found = ordered([Item(f"{i}", s) for i, s in enumerate(scores)])
    strict = {(f"{i}", f"{j}") for i, a in enumerate(scores) for j, b in enumerate(scores) if a > b}
    assert len(found) == len(strict)
    assert {(better.name, worse.name) for better, worse in found} == strict


def test_aggregates_worked_by_hand():
    # min 0.25; 0.5 * 0.25 * 0.75 = 0.09375; last 0.75; mean 1.5 / 3.
    rollout = make_rollout(
        "r",
        [[11], [12], [13]],
        outcome=1.0,
        scores={
            "prm": [0.5, 0.25, 0.75],
            "zero": [0.5, 0.0, 1.0],
            "failed": Failure(reason="timeout"),
            "partial": make_counts([8, 0, 8], [8, 0, 0]),
        },
    )
    assert score_of(rollout, "prm", "min") == 0.25
    assert score_of(rollout, "prm", "product") == pytest.approx(0.09375)
    assert score_of(rollout, "prm", "last") == 0.75
    assert score_of(rollout, "prm", "mean") == 0.5
    assert score_of(rollout, "zero", "min") == score_of(rollout, "zero", "product") == 0.0
    assert score_of(rollout, "", "min") == 1.0
    assert score_of(rollout, "failed", "min") is score_of(rollout, "absent", "min") is None
    assert score_of(rollout, "partial", "min") is None
    assert score_of(make_rollout("e", [], scores={"prm": []}), "prm", "min") is None
    assert score_of(make_rollout("u", [[11]]), "", "min") is None


def test_the_product_of_a_thousand_steps_is_no_float32():
    steps = [[11]] * 1000
    rollout = make_rollout("r", steps, scores={"prm": [0.75] * 1000})
    assert score_of(rollout, "prm", "product") == pytest.approx(0.75**1000, rel=1e-9)


def test_distinct_sides():
    def side(name: str, score: float, **kwargs) -> Side:
        return Side(sequence=make_sequence(name, [1, 2], **kwargs), score=score)

    sides = [
        side("a", 1.0),
        side("same", 0.5),
        side("other mask", 0.0, masked_steps=[1]),
        side("other prompt", 0.0, prompt_id="q"),
        side("nothing trained", 0.0, masked_steps=[0, 1]),
    ]
    kept = [(s.sequence.sequence_id, s.score) for s in distinct(sides)]
    assert kept == [("a", 1.0), ("other mask", 0.0), ("other prompt", 0.0)]


def test_the_first_differing_token_is_trained():
    # Prompt 1, 2. Both begin with 11; the second tokens differ, so training starts at position 3.
    a = make_rollout("a", [[11, 12], [13, 14]])
    b = make_rollout("b", [[11, 22, 23]])
    cut = from_divergence(a, b, 2)
    assert cut is not None
    assert cut[0].token_ids.tolist() == [1, 2, 11, 12]
    assert cut[0].loss_mask.tolist() == [False, False, False, True]
    assert cut[1].token_ids.tolist() == [1, 2, 11, 22, 23]
    assert cut[1].loss_mask.tolist() == [False, False, False, True, True]
    assert [s.sequence_id for s in cut] == ["a[1:2]", "b[1:3]"]


def test_a_beginning_has_no_token_of_its_own():
    longer, shorter = make_rollout("a", [[11], [12]]), make_rollout("b", [[11]])
    assert from_divergence(longer, shorter) is from_divergence(shorter, longer) is None
    assert from_divergence(longer, longer) is None


def pair(chosen: Sequence, rejected: Sequence) -> Candidate:
    return Candidate(chosen=chosen, rejected=rejected, chosen_score=0.75, rejected_score=0.25)


def test_assembled_pairs_list_a_sequence_once_and_a_pair_once():
    a, b, c = (make_sequence(name, [n]) for n, name in enumerate("abc", start=1))
    a2 = make_sequence("a2", [1])
    samples = assemble([[pair(a, b), pair(a2, c), pair(a2, b)], []], "made")
    assert [s.sequence_id for s in samples.sequences] == ["a", "b", "c"]
    assert [(p.chosen, p.rejected) for p in samples.pairs] == [(0, 1), (0, 2)]
    assert {(p.chosen_score, p.rejected_score, p.provenance) for p in samples.pairs} == {
        (0.75, 0.25, "made")
    }
    assert (samples.groups, samples.groups_without_signal) == (1, 1)


def test_rollouts_are_sorted_by_sample():
    group = make_group(*(make_rollout(name, [[11]]) for name in ("c", "a", "b")))
    assert [r.rollout_id for r in in_order(group)] == ["a", "b", "c"]
