from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstep.advantages.gae import Gae
from rlstep.tensors.batching import count
from rlstep.types import Failure
from tests.advantages.test_group import columns
from tests.builders import make_group, make_rollout, make_step_scores, make_token_scores


def rollout(**fields: Any):
    """Steps of 1, 2 and 1 tokens, outcome 1; values before the tokens 1/2, 1/4, 1/2, 3/4."""
    scores = {"critic": make_token_scores([0.5, 0.25, 0.5, 0.75]), "prm": [0.5, 1.0, 0.0]}
    return make_rollout("a", [[11], [12, 13], [14]], outcome=1.0, scores=scores, **fields)


def test_tokens_worked_by_hand():
    # Deltas: 1/4 - 1/2, 1/2 - 1/4, 3/4 - 1/2, 1 - 3/4 = -1/4, 1/4, 1/4, 1/4. At lam 1/2 from the
    # end: 0.25, 0.25 + 0.125 = 0.375, 0.25 + 0.1875 = 0.4375, -0.25 + 0.21875 = -0.03125.
    samples = Gae(lam=0.5).samples([make_group(rollout())])
    assert columns(samples) == [[0, 0, -0.03125, 0.4375, 0.375, 0.25]]
    # gamma 1/2, lam 0: deltas 1/8 - 1/2, 1/4 - 1/4, 3/8 - 1/2, 1 - 3/4.
    samples = Gae(gamma=0.5, lam=0.0).samples([make_group(rollout())])
    assert columns(samples) == [[0, 0, -0.375, 0, -0.125, 0.25]]


def test_steps_worked_by_hand():
    # Values before the steps 1/2, 1/4, 3/4, read at tokens 0, 1, 3: deltas -1/4, 1/2, 1/4; lam 1/2:
    # 0.25, 0.5 + 0.125, -0.25 + 0.3125. The branch trains only what it did not inherit.
    branch = rollout(parent="b", inherited=3)
    samples = Gae(level="step", lam=0.5).samples([make_group(rollout()), make_group(branch)])
    assert columns(samples) == [[0, 0, 0.0625, 0.625, 0.625, 0.25], [0] * 5 + [0.25]]
    # A critic of steps gives the same three values itself.
    of_steps = rollout().with_scores(critic=make_step_scores([0.5, 0.25, 0.75]))
    again = Gae(level="step", lam=0.5).samples([make_group(of_steps)])
    assert columns(again)[0] == columns(samples)[0]
    with pytest.raises(TypeError, match="the scores of 'critic' are StepScores"):
        Gae().samples([make_group(of_steps)])


def test_step_rewards_come_at_the_steps_last_tokens():
    # lam 1: suffix sums of (0.5, 0, 1, 0 + 1) = 2.5, 2, 2, 1, less the values.
    builder = Gae(lam=1.0, step_source="prm")
    samples = builder.samples([make_group(rollout())])
    assert columns(samples) == [[0, 0, 2, 1.75, 1.5, 0.25]]
    # By steps: suffix sums of (0.5, 1, 1) = 2.5, 2, 1, less 1/2, 1/4, 3/4.
    by_step = Gae(level="step", lam=1.0, step_source="prm").samples([make_group(rollout())])
    assert columns(by_step) == [[0, 0, 2, 1.75, 1.75, 0.25]]
    assert builder.sources == {"outcome", "critic", "prm"}
    assert builder.laws == {"one_token_steps_are_tokens"} == Gae(gamma=0.9).laws
    equal = Gae(gamma=0.9, level="step").samples([make_group(rollout())])
    assert np.isfinite(equal.advantages[0]).all()


def test_values_are_labelled_where_a_head_reads_them():
    # The head has seen token p at position p: the value before completion token t is at 2 + t - 1.
    # lam 1: every target is the outcome.
    labels = Gae(lam=1.0).value_labels([rollout()])
    assert labels.targets[0].tolist() == [0, 1, 1, 1, 1, 0]
    assert labels.weights[0].tolist() == [0, 1, 1, 1, 1, 0]
    assert labels.sequences[0].loss_mask.tolist() == [False, True, True, True, True, False]
    # lam 0, gamma 1/2: half the next value, the outcome at the end.
    labels = Gae(gamma=0.5, lam=0.0).value_labels([rollout()])
    assert labels.targets[0].tolist() == [0, 0.125, 0.25, 0.375, 1, 0]
    assert count(labels).weight == 4.0


def test_values_of_steps_are_labelled_before_each_step():
    # Steps start at completion tokens 0, 1, 3; A + V = (0.0625 + 0.5, 0.625 + 0.25, 0.25 + 0.75).
    failed = rollout().with_scores(critic=Failure(reason="timeout"))
    branch = rollout(parent="b", inherited=3)
    labels = Gae(level="step", lam=0.5).value_labels([rollout(), failed, branch])
    assert [t.tolist() for t in labels.targets] == [
        [0, 0.5625, 0.875, 0, 1, 0],
        [0, 0, 0, 0, 1, 0],
    ]
    assert [s.loss_mask.tolist() for s in labels.sequences] == [
        [False, True, True, False, True, False],
        [False, False, False, False, True, False],
    ]
    assert labels.sequences[0].step_index.tolist() == [-1, -1, 0, 1, 1, 2]


def test_advantages_are_targets_less_values():
    builder = Gae(gamma=0.9, lam=0.7)
    advantages = builder.samples([make_group(rollout())]).advantages[0][2:]
    targets = builder.value_labels([rollout()]).targets[0][1:-1]
    assert advantages == pytest.approx(targets - np.array([0.5, 0.25, 0.5, 0.75]), abs=1e-6)


@pytest.mark.parametrize("name", ["gamma", "lam"])
@pytest.mark.parametrize(
    ("value", "message"), [(-0.1, "smallest valid value is 0"), (1.5, "largest valid value is 1")]
)
def test_bad_fields(name: str, value: float, message: str):
    fields: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"advantages\.{name} is {value}; the {message}"):
        Gae(**fields)
