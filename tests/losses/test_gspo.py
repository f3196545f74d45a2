from __future__ import annotations

import math

import pytest
import torch

from rlstep.losses.gspo import Gspo
from rlstep.losses.policy_gradient import Clip
from rlstep.types import AdvantageSamples
from tests.builders import make_sequence, pad_rows
from tests.losses.policy_gradient_kit import Rows, close, one_token, ragged, run, samples_of

WIDE = Clip(low=0.5, high=0.5)


def test_the_papers_bounds_worked_by_hand():
    # ln rho = 0.001 is over 4e-4: gain 1.0004, no gradient; A = -1 is not clipped from above.
    rows = [[0.0, 0.001]]
    out, gradient = run(Gspo(), one_token(1.0), rows)
    assert out.loss.item() == pytest.approx(-1.0004, abs=1e-9)
    assert gradient.abs().max() == 0.0 and out.metrics["clip_fraction"].item() == 1.0
    out, gradient = run(Gspo(), one_token(-1.0), rows)
    assert out.loss.item() == gradient[0, 1].item() == pytest.approx(math.exp(0.001))
    # ln rho = -0.001 is under -3e-4.
    out, _ = run(Gspo(), one_token(-1.0), [[0.0, -0.001]])
    assert out.loss.item() == pytest.approx(0.9997, abs=1e-9)


def test_ragged_masked_worked_by_hand():
    # Sequence 0: mean of 0.3 and 0.1 is 0.2, e^0.2 = 1.221403, A = 1. Sequence 1: -0.1 on its
    # trained token, e^-0.1 = 0.904837, A = -2. Loss -(1.221403 - 1.809675) / 2 = 0.294136.
    # Gradients -1.221403 / 2 / 2 and 1.809675 / 2.
    rows = [[0.0, 0.3, 0.1], [0.0, 50.0, -0.1]]
    out, gradient = run(Gspo(surrogate=WIDE), ragged(), rows)
    assert out.loss.item() == pytest.approx(0.294136, abs=1e-6)
    close(gradient, [[0, -0.305351, -0.305351], [0, 0, 0.904837]])


def level(samples: AdvantageSamples, rows: Rows) -> torch.Tensor:
    """Eq. 5 as it is written, unclipped: -mean over sequences of exp(mean_t log-ratio) A."""
    predictions = pad_rows(rows)
    total = predictions.sum() * 0.0
    for i, s in enumerate(samples.sequences):
        mask = torch.from_numpy(s.loss_mask)
        s_i = predictions[i, : len(mask)][mask].mean().exp()
        total = total - s_i * float(samples.advantages[i][s.loss_mask][0]) / len(samples.sequences)
    return torch.autograd.grad(total, predictions)[0]


def test_with_one_advantage_a_sequence_the_gradient_is_the_sequence_ratios_own():
    rows = [[0.0, 0.3, -0.2], [0.0, 50.0, -0.1]]
    _, gradient = run(Gspo(surrogate=WIDE), ragged(), rows)
    torch.testing.assert_close(gradient, level(ragged(), rows))


def test_advantages_that_differ_go_to_their_own_tokens():
    # e^0.2 for both tokens, A = 1 and 0: only the first has a gradient.
    samples = samples_of([make_sequence("a", [1, 1])], [[0, 1, 0]])
    out, gradient = run(Gspo(surrogate=WIDE), samples, [[0.0, 0.3, 0.1]])
    assert out.loss.item() == pytest.approx(-0.610701, abs=1e-6)
    close(gradient, [[0, -0.610701, 0]])
