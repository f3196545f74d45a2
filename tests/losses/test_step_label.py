from __future__ import annotations

import math

import pytest
import torch

from rlstep.losses.step_label import StepLabelLoss
from rlstep.tensors.batching import count
from tests.builders import make_batch, make_sequence, pad_rows
from tests.losses.test_cross_entropy import samples_of

LN3 = math.log(3.0)


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_a_zero_logit_costs_ln_2_for_every_target(target: float):
    samples = samples_of([make_sequence("a", [1])], [[0, 8]], [[0, target]])
    out = StepLabelLoss()(pad_rows([[0.0, 0.0]]), make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(0.693147, abs=1e-6)


def test_the_least_value_is_the_entropy_of_the_target():
    # Target 0.75 at logit ln 3 (p = 0.75): -0.75 ln 0.75 - 0.25 ln 0.25 = 0.562335, gradient 0.
    samples = samples_of([make_sequence("a", [1])], [[0, 8]], [[0, 0.75]])
    predictions = pad_rows([[0.0, LN3]])
    out = StepLabelLoss()(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(0.562335, abs=1e-6)
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    assert gradient[0, 1].item() == pytest.approx(0.0, abs=1e-12)


def test_ragged_masked_weighted_worked_by_hand():
    # a: two one-token steps, targets 1 and 0, weights 3 and 1, logits ln 3 (p 3/4) and 0.
    # b: its only step is masked (n = 0), so neither sum nor denominator sees it.
    # (3 * -ln 3/4 + 1 * ln 2) / 4 = (0.863046 + 0.693147) / 4 = 0.389048.
    samples = samples_of(
        [make_sequence("a", [1, 1]), make_sequence("b", [3], masked_steps=[0])],
        [[0, 3, 1], [0, 0, 0, 0]],
        [[0, 1, 0], [0, 0, 0, 0]],
    )
    predictions = pad_rows([[9.0, LN3, 0.0], [9.0, -9.0, 9.0, 9.0]])
    out = StepLabelLoss()(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(0.389048, abs=1e-6)
    # (p - target) weight / 4: -1/4 * 3/4 and 1/2 * 1/4.
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    expected = torch.tensor([[0, -0.1875, 0.125, 0], [0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected)
    # Right on the first (logit over 0, target over 1/2) and on the second (neither): all 4.
    assert out.metrics["label_accuracy"].item() == 1.0
    assert out.metrics["target_mean"].item() == 0.75
    # (3 * 0.75 + 1 * 0.5) / 4
    assert out.metrics["prediction_mean"].item() == pytest.approx(0.6875)


def test_accuracy_counts_by_weight():
    # The first label (weight 3) is missed, the second (weight 1) is hit.
    samples = samples_of([make_sequence("a", [1, 1])], [[0, 3, 1]], [[0, 1, 0]])
    out = StepLabelLoss()(pad_rows([[0.0, -1.0, -1.0]]), make_batch(samples), count(samples))
    assert out.metrics["label_accuracy"].item() == 0.25
