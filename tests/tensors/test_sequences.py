from __future__ import annotations

import numpy as np
import pytest

from rlstep.tensors.sequences import sequence, shared_prefix
from tests.builders import make_prompt, make_rollout

ROLLOUT = make_rollout(
    "r",
    [[11, 12], [13], [14]],
    prompt=make_prompt("q", [1, 2, 3]),
    versions=[(5, 0, 1), (6, 1, 3), (7, 3, 4)],
)


def test_a_whole_rollout():
    out = sequence(ROLLOUT, step_scores=np.array([0.5, 0.25, 0.125], dtype=np.float32))
    assert (out.sequence_id, out.prompt_id, out.oldest_version) == ("r", "q", 5)
    assert out.token_ids.tolist() == [1, 2, 3, 11, 12, 13, 14]
    assert out.loss_mask.tolist() == [False] * 3 + [True] * 4
    assert out.step_index.tolist() == [-1, -1, -1, 0, 0, 1, 2]
    assert out.step_scores.tolist() == [0.5, 0.25, 0.125]
    assert out.rollout_logprobs == pytest.approx([0, 0, 0, -0.11, -0.12, -0.13, -0.14])
    dtypes = (out.token_ids.dtype, out.step_index.dtype, out.rollout_logprobs.dtype)
    assert dtypes == (np.int32, np.int32, np.float32)


def test_one_step_of_a_rollout():
    # Completion tokens [2, 3) were written under version 6; the last step is cut away.
    out = sequence(ROLLOUT, start=2, end=3, step_scores=np.array([0.5, 0.25, 0.125]))
    assert (out.sequence_id, out.oldest_version) == ("r[2:3]", 6)
    assert out.token_ids.tolist() == [1, 2, 3, 11, 12, 13]
    assert out.loss_mask.tolist() == [False] * 5 + [True]
    assert out.step_index.tolist() == [-1, -1, -1, 0, 0, 1]
    assert out.step_scores.tolist() == [0.5, 0.25]


def test_an_empty_completion_has_nothing_to_train():
    out = sequence(make_rollout("e", []))
    assert out.token_ids.tolist() == [1, 2]
    assert not out.loss_mask.any() and len(out.step_scores) == 0


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([1], [2], 0), ([], [1], 0)],
)
def test_shared_prefix(a: list[int], b: list[int], expected: int):
    assert shared_prefix(np.array(a), np.array(b)) == expected
