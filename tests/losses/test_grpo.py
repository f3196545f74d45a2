from __future__ import annotations

import pytest
import torch

from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.losses.ppo import Ppo
from tests.builders import make_sequence
from tests.losses.policy_gradient_kit import (
    RAGGED_ROWS,
    close,
    one_token,
    ragged,
    run,
    samples_of,
)


def test_one_token_with_kl_worked_by_hand():
    # rho = 1, d = -0.5: -1 + 0.04 * 0.106531; gradient -1 + 0.04 * (1 - e^-0.5 = 0.393469).
    rows = [[0.0, 0.5]]
    out, gradient = run(Grpo(), one_token(1.0), rows, old_logprobs=rows)
    assert out.loss.item() == pytest.approx(-1.0 + 0.04 * 0.106531, abs=1e-7)
    assert gradient[0, 1].item() == pytest.approx(-1.0 + 0.04 * 0.393469, abs=1e-7)


def test_a_group_without_signal_feels_the_kl():
    """Its advantages are 0, and its tokens are of the mean: the penalty alone is left."""
    rows = [[0.0, 0.5]]
    out, gradient = run(Grpo(), one_token(0.0), rows, old_logprobs=rows)
    assert out.loss.item() == pytest.approx(0.04 * 0.106531, abs=1e-7)
    assert gradient[0, 1].item() == pytest.approx(0.04 * 0.393469, abs=1e-7)


def test_ragged_masked_sequence_mean_worked_by_hand():
    # ref = policy, so no KL. Gains (1 + 1.1) / 2 = 1.05 and -1.8: mean -0.375. Gradients
    # -rho A / (2 tokens * 2 sequences), and 0.9 * 2 / (1 token * 2 sequences) = 0.9.
    out, gradient = run(Grpo(), ragged(), RAGGED_ROWS, ref_logprobs=RAGGED_ROWS)
    assert out.loss.item() == pytest.approx(0.375)
    close(gradient, [[0, -0.25, -0.275], [0, 0, 0.9]])
    assert out.metrics["kl"].item() == 0.0


def test_a_sequence_without_a_trained_token_does_not_count():
    trained, untrained = make_sequence("0", [1]), make_sequence("1", [2], masked_steps=[0])
    one = samples_of([trained], [[0, 1]])
    beside = samples_of([trained, untrained], [[0, 1], [0, 0, 0]])
    rows = [[0.0, 0.1], [0.0, 3.0, 3.0]]
    assert run(Grpo(), beside, rows)[0].loss == run(Grpo(), one, rows[:1])[0].loss


def test_process_advantages_of_the_papers_example():
    # Step rewards {[1, 0], [1]}: A of response 1 is (-0.707107, -1.414214), of response 2 0.707107.
    # On policy the loss is -mean(A): -((-1.060660 + 0.707107) / 2) = 0.176777.
    samples = samples_of(
        [make_sequence("0", [1, 1]), make_sequence("1", [1])],
        [[0, -0.707107, -1.414214], [0, 0.707107]],
    )
    out, _ = run(Grpo(), samples, [[0.0, 0.0, 0.0], [0.0, 0.0]])
    assert out.loss.item() == pytest.approx(0.176777, abs=1e-6)


def test_the_token_mean_without_kl_is_ppos_loss():
    loss = Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0))
    one, other = run(loss, ragged(), RAGGED_ROWS), run(Ppo(), ragged(), RAGGED_ROWS)
    assert one[0].loss == other[0].loss and torch.equal(one[1], other[1])
