from __future__ import annotations

import pytest

from rlstep.losses.dr_grpo import DrGrpo
from rlstep.losses.means import ConstantLength
from tests.builders import make_sequence
from tests.losses.policy_gradient_kit import (
    RAGGED_ROWS,
    close,
    one_token,
    ragged,
    run,
    samples_of,
)


def test_one_token_worked_by_hand():
    # A = 1 on one token of one sequence: -1 / 3000.
    out, _ = run(DrGrpo(), one_token(1.0), [[0.0, 0.0]])
    assert out.loss.item() == pytest.approx(-1 / 3000)


def test_ragged_masked_worked_by_hand():
    # Gains 1 + 1.1 - 1.8 = 0.3 over 2 sequences of 10: loss -0.015, gradients -rho A / 20.
    loss = DrGrpo(mean=ConstantLength(length=10))
    out, gradient = run(loss, ragged(), RAGGED_ROWS)
    assert out.loss.item() == pytest.approx(-0.015)
    close(gradient, [[0, -0.05, -0.055], [0, 0, 0.09]])
    assert loss.reads == {"old_logprobs"}  # no KL


def test_a_tokens_gradient_does_not_depend_on_its_sequences_length():
    samples = samples_of(
        [make_sequence("0", [5]), make_sequence("1", [1])], [[0] + [-1] * 5, [0, -1]]
    )
    _, gradient = run(DrGrpo(), samples, [[0.0] * 6, [0.0] * 2])
    assert set(gradient[0, 1:].tolist()) == {gradient[1, 1].item()} == {1 / 6000}
