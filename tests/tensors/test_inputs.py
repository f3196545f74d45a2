"""Labels and predictions between the policy's tokens and those that a step model reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlstep.interfaces import StepInputs
from rlstep.tensors.inputs import at_steps, own_inputs, tagged, to_model
from rlstep.tensors.labels import step_labels
from rlstep.tensors.sequences import last_tokens
from rlstep.types import AdvantageSamples, Failure, Rollout
from tests.builders import make_counts, make_rollout

# A prompt of 2 tokens, steps of 2, 1 and 3: their last tokens are 3, 4 and 7 of 8.
ROLLOUT = make_rollout(
    "r",
    [[11, 12], [13], [14, 15, 16]],
    scores={"monte_carlo": make_counts([4, 0, 8], [3, 0, 2])},
)


def with_tags(rollout: Rollout) -> StepInputs:
    """Tag 99 behind every step, 98 at the end."""
    ids = rollout.completion.token_ids
    steps = [ids[s.start : s.end].tolist() for s in rollout.steps]
    return tagged(rollout.prompt.token_ids.tolist(), steps, 99, [98])


def test_tags_by_hand():
    inputs = with_tags(ROLLOUT)
    assert inputs.token_ids.tolist() == [1, 2, 11, 12, 99, 13, 99, 14, 15, 16, 99, 98]
    assert inputs.read_at.tolist() == [4, 6, 10]


def test_own_inputs_read_each_steps_last_token():
    assert last_tokens(ROLLOUT).tolist() == [3, 4, 7]
    own = own_inputs(ROLLOUT)
    assert own.token_ids.tolist() == [1, 2, 11, 12, 13, 14, 15, 16]
    assert own.read_at.tolist() == [3, 4, 7]


def test_predictions_stand_at_the_steps_last_tokens_and_nowhere_else():
    row = at_steps(ROLLOUT, with_tags(ROLLOUT), np.arange(12, dtype=np.float32))
    assert row[[3, 4, 7]].tolist() == [4.0, 6.0, 10.0]
    assert np.isnan(row[[0, 1, 2, 5, 6]]).all() and row.shape == (8,)
    two = np.stack([np.arange(12), -np.arange(12)], axis=1).astype(np.float32)
    assert at_steps(ROLLOUT, with_tags(ROLLOUT), two)[7].tolist() == [10.0, -10.0]


def test_labels_move_to_the_tags():
    moved = to_model(step_labels([ROLLOUT]), [ROLLOUT], with_tags)
    [sequence], [targets], [weights] = moved.sequences, moved.targets, moved.weights
    assert sequence.token_ids.tolist() == with_tags(ROLLOUT).token_ids.tolist()
    # 3 of 4 at the first tag, nothing at the second, 2 of 8 at the third.
    assert np.flatnonzero(sequence.loss_mask).tolist() == [4, 10]
    assert (targets[4], targets[10], weights[4], weights[10]) == (0.75, 0.25, 4.0, 8.0)
    assert targets.sum() == 1.0 and weights.sum() == 12.0
    assert sequence.step_index[[4, 6, 10]].tolist() == [0, 1, 2]
    assert (sequence.step_index >= 0).sum() == 3


def test_what_cannot_be_read_is_left_out():
    long = replace(ROLLOUT, rollout_id="long")

    def read(rollout: Rollout) -> StepInputs | Failure:
        return Failure(reason="too_long") if rollout is long else with_tags(rollout)

    moved = to_model(step_labels([long, ROLLOUT]), [long, ROLLOUT], read)
    assert [s.sequence_id for s in moved.sequences] == ["r"]
    assert len(moved.targets) == len(moved.weights) == 1


def test_labels_that_have_no_place_are_refused():
    samples = step_labels([ROLLOUT])
    with pytest.raises(ValueError, match="r is labelled, and no whole rollout"):
        to_model(samples, [], with_tags)
    [sequence] = samples.sequences
    mask = sequence.loss_mask.copy()
    mask[5] = True
    spoiled = replace(samples, sequences=(replace(sequence, loss_mask=mask),))
    with pytest.raises(ValueError, match="r has a label beside its steps' last tokens"):
        to_model(spoiled, [ROLLOUT], with_tags)
    with pytest.raises(TypeError, match=r"takes LabelSamples, not .*AdvantageSamples"):
        to_model(AdvantageSamples(sequences=(), advantages=(), groups=0), [], with_tags)
