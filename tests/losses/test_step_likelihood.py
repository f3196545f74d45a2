from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rlstep.losses.step_likelihood import StepLikelihoodLoss
from rlstep.tensors.batching import collate, count
from rlstep.types import LabelSamples
from tests.builders import double, make_sequence, pad_rows, zero_logprobs
from tests.losses.test_cross_entropy import samples_of


def run(samples: LabelSamples, rows: list[list[float]]):
    predictions = pad_rows(rows)
    zeros = zero_logprobs(samples)
    batch: Any = double(collate(samples, zeros, zeros))
    out = StepLikelihoodLoss()(predictions, batch, count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


def test_a_right_and_a_wrong_step_worked_by_hand():
    # Step 0, of two tokens of 1/2 each: p = 1/4, right, weight 3: -ln 1/4 = 1.386294.
    # Step 1: p = 0.8, wrong, weight 1: -ln(1 - 0.9999 * 0.8) = -ln 0.20008 = 1.609038.
    # (3 * 1.386294 + 1.609038) / 4 = 1.441980.
    samples = samples_of([make_sequence("a", [2, 1])], [[0, 1, 2, 1]], [[0, 1, 1, 0]])
    half, most = math.log(0.5), math.log(0.8)
    out, gradient = run(samples, [[0, half, half, most]])
    assert out.loss.item() == pytest.approx(1.441980, abs=1e-6)
    # Right: -3 / 4 at both tokens. Wrong: 0.79992 / 0.20008 / 4 = 0.999500.
    assert gradient[0].tolist() == pytest.approx([0, -0.75, -0.75, 0.999500], abs=1e-6)
    assert out.metrics["label_accuracy"].item() == 0.0
    assert out.metrics["prediction_mean"].item() == pytest.approx((3 * 0.25 + 0.8) / 4)


def test_a_certain_wrong_step_has_a_finite_loss():
    # -ln(1 - 0.9999) = 9.210340, gradient 0.9999 / 0.0001 = 9999.
    samples = samples_of([make_sequence("a", [1])], [[0, 2]], [[0, 0]])
    out, gradient = run(samples, [[0, 0.0]])
    assert out.loss.item() == pytest.approx(9.210340, abs=1e-5)
    assert gradient[0, 1].item() == pytest.approx(9999.0, rel=1e-6)


def test_a_step_without_a_label_is_not_seen():
    samples = samples_of(
        [make_sequence("a", [1, 2], masked_steps=[1]), make_sequence("b", [1])],
        [[0, 1, 0, 0], [0, 1]],
        [[0, 1, 0, 0], [0, 1]],
    )
    out, gradient = run(samples, [[0, -1, -7, -7], [0, -3]])
    assert out.loss.item() == pytest.approx(2.0)
    assert gradient[0].tolist() == pytest.approx([0, -0.5, 0, 0])


def test_a_soft_label_is_reached_at_its_own_probability():
    # y = 3/4 at p = 3/4: -y / p + (1 - y) / (1 - p) = 0, but for the 1e-4 that is kept off 1.
    samples = samples_of([make_sequence("a", [1])], [[0, 1]], [[0, 0.75]])
    _, gradient = run(samples, [[0, math.log(0.75)]])
    assert gradient[0, 1].item() == pytest.approx(0.0, abs=1e-3)
