from __future__ import annotations

from rlstep.batching import count
from rlstep.labels import CorrectOnly, step_labels
from rlstep.types import Failure
from tests.builders import make_counts, make_group, make_prompt, make_rollout


def test_correct_rollouts_whole_with_weight_one():
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0, parent="b", inherited=1),
        make_rollout("b", [[13]], outcome=0.0),
        make_rollout("c", [[14]], outcome=None),
    )
    other = make_group(make_rollout("d", [[15]], outcome=1.0, prompt=make_prompt("q")))
    samples = CorrectOnly().samples([group, other])
    assert [s.sequence_id for s in samples.sequences] == ["a", "d"]
    assert [w.tolist() for w in samples.weights] == [[0, 0, 1, 1], [0, 0, 1]]
    assert [t.tolist() for t in samples.targets] == [[0, 0, 1, 1], [0, 0, 1]]
    assert count(samples).weight == 3.0


def test_step_labels_worked_by_hand():
    # Steps of 2, 1, 1 tokens after a prompt of 2: last tokens at 3, 4, 5. Counts 3/8, none, 0/4.
    rollout = make_rollout(
        "a",
        [[11, 12], [13], [14]],
        outcome=0.0,
        scores={"monte_carlo": make_counts([8, 0, 4], [3, 0, 0])},
    )
    samples = step_labels([rollout])
    assert samples.targets[0].tolist() == [0, 0, 0, 0.375, 0, 0]
    assert samples.weights[0].tolist() == [0, 0, 0, 8, 0, 4]
    assert samples.sequences[0].loss_mask.tolist() == [False] * 3 + [True, False, True]
    assert samples.sequences[0].step_index.tolist() == [-1, -1, 0, 0, 1, 2]
    assert count(samples).weight == 12.0


def test_rollouts_without_labels_are_left_out():
    rollouts = [
        make_rollout("a", [[11]], outcome=1.0),
        make_rollout("b", [[11]], scores={"monte_carlo": Failure(reason="generator_lost")}),
        make_rollout("c", [[11], [12]], scores={"monte_carlo": make_counts([0, 0], [0, 0])}),
        make_rollout("d", [[11], [12]], scores={"monte_carlo": make_counts([0, 2], [0, 2])}),
    ]
    samples = step_labels(rollouts)
    assert [s.sequence_id for s in samples.sequences] == ["d"]
    assert step_labels([]).sequences == ()
