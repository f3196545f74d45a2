from __future__ import annotations

import numpy as np
import pytest

from rlstep.pairs.outcome import OutcomePairs
from rlstep.types import Failure, PairSamples, RolloutScore
from tests.builders import make_counts, make_group, make_prompt, make_rollout


def names(samples: PairSamples) -> list[tuple[str, str]]:
    ids = [s.sequence_id for s in samples.sequences]
    return [(ids[p.chosen], ids[p.rejected]) for p in samples.pairs]


def test_all_pairs_of_a_group_worked_by_hand():
    # Two correct (a, c), two wrong (b, d), one without an outcome: 2 * 2 = 4 pairs, 4 sequences.
    group = make_group(
        make_rollout("a", [[11]], outcome=1.0),
        make_rollout("b", [[12, 13]], outcome=0.0),
        make_rollout("c", [[12, 14]], outcome=1.0),
        make_rollout("x", [[15]], outcome=None),
        make_rollout("d", [[16]], outcome=0.0),
    )
    samples = OutcomePairs().samples([group])
    assert names(samples) == [("a", "b"), ("a", "d"), ("c", "b"), ("c", "d")]
    assert [s.sequence_id for s in samples.sequences] == ["a", "b", "d", "c"]
    assert (samples.groups, samples.groups_without_signal) == (1, 0)
    # The prompt is tokens 1, 2; c and b also share token 12.
    assert [p.shared_prefix for p in samples.pairs] == [2, 2, 3, 2]
    assert {(p.margin, p.provenance) for p in samples.pairs} == {(1.0, "outcome")}
    b = samples.sequences[1]
    assert b.token_ids.tolist() == [1, 2, 12, 13]
    assert b.loss_mask.tolist() == [False, False, True, True]
    assert b.step_index.tolist() == [-1, -1, 0, 0]
    assert b.step_scores.tolist() == [0.0]
    np.testing.assert_allclose(b.rollout_logprobs, [0, 0, -0.12, -0.13], rtol=1e-6)


def test_outcomes_between_right_and_wrong_are_ordered_too():
    # 1 > 0.5 > 0: the middle one is chosen once and rejected once.
    group = make_group(
        *(make_rollout(f"{v}", [[11, int(8 * v)]], outcome=v) for v in (0.5, 1.0, 0.0)),
    )
    samples = OutcomePairs().samples([group])
    assert names(samples) == [("1.0", "0.5"), ("1.0", "0.0"), ("0.5", "0.0")]
    assert [p.margin for p in samples.pairs] == [0.5, 1.0, 0.5]
    assert names(OutcomePairs(min_margin=0.75).samples([group])) == [("1.0", "0.0")]


def test_rollouts_with_the_same_tokens_are_one_side():
    # a and b say the same, and so do c and e; d is right by other steps but with the same tokens.
    group = make_group(
        make_rollout("e", [[12]], outcome=0.0),
        make_rollout("d", [[11], [13]], outcome=1.0),
        make_rollout("c", [[12]], outcome=0.0),
        make_rollout("b", [[11, 13]], outcome=1.0),
        make_rollout("a", [[11, 13]], outcome=1.0),
    )
    samples = OutcomePairs().samples([group])
    assert names(samples) == [("a", "c")] and len(samples.sequences) == 2
    # The same problem under another name stays apart: mini-batches are cut by prompt.
    other = make_prompt("q")
    twin = make_group(
        make_rollout("x", [[11, 13]], outcome=1.0, prompt=other),
        make_rollout("y", [[12]], outcome=0.0, prompt=other),
    )
    assert names(OutcomePairs().samples([group, twin])) == [("a", "c"), ("x", "y")]


def test_a_completion_without_tokens_is_in_no_pair():
    group = make_group(make_rollout("a", [], outcome=0.0), make_rollout("b", [[11]], outcome=1.0))
    samples = OutcomePairs().samples([group])
    assert (samples.pairs, samples.groups_without_signal) == ((), 1)


def test_groups_without_signal_are_counted_and_prompts_never_mix():
    p, q, r = (make_prompt(name) for name in "pqr")
    groups = [
        make_group(*(make_rollout(f"p{i}", [[11]], outcome=1.0, prompt=p) for i in range(3))),
        make_group(make_rollout("q0", [[11]], outcome=0.0, prompt=q)),
        make_group(
            make_rollout("r0", [[11]], outcome=0.0, prompt=r),
            make_rollout("r1", [[12]], outcome=1.0, prompt=r),
        ),
    ]
    samples = OutcomePairs().samples(groups)
    assert names(samples) == [("r1", "r0")]
    assert (samples.groups, samples.groups_without_signal) == (1, 2)
    empty = OutcomePairs().samples([])
    assert (empty.sequences, empty.pairs, empty.groups) == ((), (), 0)


def test_a_cap_spreads_over_the_rollouts():
    # 3 correct, 3 wrong, 9 pairs; 3 of them use every rollout once.
    group = make_group(
        *(make_rollout(f"c{i}", [[11, i]], outcome=1.0) for i in range(3)),
        *(make_rollout(f"w{i}", [[12, i]], outcome=0.0) for i in range(3)),
    )
    assert names(OutcomePairs(max_pairs=3).samples([group])) == [
        ("c0", "w0"),
        ("c1", "w1"),
        ("c2", "w2"),
    ]
    # The fourth: every side was used once, so the first pair that is left.
    assert names(OutcomePairs(max_pairs=4).samples([group]))[3] == ("c0", "w1")
    assert len(OutcomePairs(max_pairs=20).samples([group]).pairs) == 9


def test_step_scores_are_copied_and_incomplete_ones_leave_the_rollout_out():
    group = make_group(
        make_rollout("a", [[11], [12, 13]], outcome=1.0, scores={"prm": [0.75, 0.5]}),
        make_rollout("b", [[14]], outcome=0.0, scores={"prm": [0.25]}),
        make_rollout("c", [[15]], outcome=0.0, scores={"prm": Failure(reason="timeout")}),
        make_rollout("d", [[16]], outcome=0.0),
        make_rollout("e", [[1], [2]], outcome=0.0, scores={"prm": make_counts([8, 0], [4, 0])}),
    )
    samples = OutcomePairs(step_source="prm").samples([group])
    assert names(samples) == [("a", "b")]
    assert [s.step_scores.tolist() for s in samples.sequences] == [[0.75, 0.5], [0.25]]


def test_sources():
    assert OutcomePairs().sources == {"outcome"}
    assert OutcomePairs(step_source="oracle").sources == {"outcome", "oracle"}


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match=r"pairs\.max_pairs is -1; the smallest valid value is 0"):
        OutcomePairs(max_pairs=-1)
    with pytest.raises(ValueError, match=r"pairs\.min_margin is -0.5; the smallest valid"):
        OutcomePairs(min_margin=-0.5)


def test_a_reward_may_order_them():
    # all are correct; rewards 0.5, 0.25, 0.75 and one that failed: 3 pairs
    rewards = {"a": 0.5, "b": 0.25, "c": 0.75}
    group = make_group(
        *(
            make_rollout(name, [[i]], outcome=1.0, scores={"reward": RolloutScore(value=reward)})
            for i, (name, reward) in enumerate(rewards.items(), start=11)
        ),
        make_rollout("x", [[15]], outcome=1.0, scores={"reward": Failure(reason="part_failed")}),
    )
    samples = OutcomePairs(source="reward").samples([group])
    assert sorted(names(samples)) == [("a", "b"), ("c", "a"), ("c", "b")]
    assert sorted(p.margin for p in samples.pairs) == [0.25, 0.25, 0.5]
    assert OutcomePairs().samples([group]).pairs == ()
    with pytest.raises(ValueError, match=r"pairs\.source is ''"):
        OutcomePairs(source="")
