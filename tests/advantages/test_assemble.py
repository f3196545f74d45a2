from __future__ import annotations

import numpy as np
import pytest

from rlstep.advantages.assemble import (
    assemble,
    complete,
    has_signal,
    per_token,
    step_values,
    token_values,
    whiten,
)
from rlstep.types import Failure
from tests.advantages.test_group import columns
from tests.builders import make_counts, make_rollout, make_step_scores, make_token_scores


def test_complete_rollouts():
    scores = {"prm": [0.5], "monte_carlo": make_counts([0], [0])}
    rollouts = [
        make_rollout("whole", [[11]], outcome=1.0, scores=scores),
        make_rollout("failed", [[11]], outcome=1.0, scores={"prm": Failure(reason="timeout")}),
        make_rollout("unverified", [[11]], scores=scores),
        make_rollout("unscored", [[11]], outcome=0.0),
        make_rollout("empty", [], outcome=0.0, scores={"prm": []}),
    ]
    assert [r.rollout_id for r in complete(rollouts, "outcome", "prm")] == ["whole"]
    assert [r.rollout_id for r in complete(rollouts, "prm")] == ["whole", "unverified"]
    assert complete(rollouts, "monte_carlo") == []


def test_a_source_of_the_wrong_kind_is_named():
    scores = {"critic": make_token_scores([0.5]), "prm": make_step_scores([0.5])}
    rollout = make_rollout("a", [[11]], scores=scores)
    with pytest.raises(TypeError, match="a: the scores of 'critic' are TokenScores; this"):
        step_values(rollout, "critic")
    with pytest.raises(TypeError, match="a: the scores of 'prm' are StepScores; this"):
        token_values(rollout, "prm")


def test_advantages_of_tokens_and_of_what_was_inherited():
    whole = make_rollout("a", [[11], [12, 13]])
    branch = make_rollout("b", [[11], [14]], parent="a", inherited=1)
    silent = make_rollout("c", [[11], [15]], parent="a", inherited=1)
    credits = [
        [(whole, per_token(whole, np.array([0.5, -0.25]))), (branch, np.array([3.0, 0.0]))],
        [(silent, np.array([7.0, 1e-12]))],  # nothing but rounding on what it trains
        [],
    ]
    samples = assemble(credits)
    # Of the second rollout only the last token is trained, and its advantage is 0.
    assert columns(samples) == [[0, 0, 0.5, -0.25, -0.25], [0, 0, 0, 0]]
    assert samples.sequences[1].loss_mask.tolist() == [False, False, False, True]
    assert (samples.groups, samples.groups_without_signal) == (1, 2)
    assert [has_signal(credit) for credit in credits] == [True, False, False]


def test_whitening_worked_by_hand():
    # Trained tokens of groups with signal: 1, 1, 4 (the inherited 9 is not): mean 2, variance 2.
    a, b, c = (make_rollout(name, [[11], [12]]) for name in "abc")
    branch = make_rollout("d", [[11], [14]], parent="a", inherited=1)
    credits = [
        [(a, np.array([1.0, 1.0])), (branch, np.array([9.0, 4.0]))],
        [(b, np.zeros(2)), (c, np.zeros(2))],
    ]
    first, second = whiten(credits)
    assert first[0][1] == pytest.approx([-1 / np.sqrt(2)] * 2)
    assert first[1][1][1] == pytest.approx(2 / np.sqrt(2))
    assert [column.tolist() for _, column in second] == [[0.0, 0.0]] * 2


def test_whitening_what_is_equal_gives_zero():
    rollout = make_rollout("a", [[11], [12]])
    ((_, column),) = whiten([[(rollout, np.full(2, 0.1))]])[0]
    assert column.tolist() == [0.0, 0.0]
    assert whiten([]) == [] and whiten([[]]) == [[]]
