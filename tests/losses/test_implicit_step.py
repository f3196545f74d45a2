from __future__ import annotations

from typing import Any

import pytest
import torch

from rlstep.losses.implicit_step import ImplicitStepLoss
from rlstep.tensors.batching import collate, count
from rlstep.types import LabelSamples
from tests.builders import double, make_sequence, pad_rows, zero_logprobs
from tests.losses.test_cross_entropy import samples_of


def run(samples: LabelSamples, rows: list[list[float]], beta: float = 1.0):
    predictions = pad_rows(rows)
    zeros = zero_logprobs(samples)
    batch: Any = double(collate(samples, zeros, zeros))
    out = ImplicitStepLoss(beta=beta)(predictions, batch, count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


def test_two_steps_worked_by_hand():
    # Steps of 2 and 1 tokens, log-ratios (2, -1) and (3), beta 0.5: logits 0.5 and 1.5.
    # Step 0: target 1, weight 3 (its tokens have 1 and 2): -ln sigmoid(0.5) = 0.474077.
    # Step 1: target 0, weight 1: -ln sigmoid(-1.5) = 1.701413. (3 * 0.474077 + 1.701413) / 4.
    samples = samples_of([make_sequence("a", [2, 1])], [[0, 1, 2, 1]], [[0, 1, 1, 0]])
    out, gradient = run(samples, [[0, 2, -1, 3]], beta=0.5)
    assert out.loss.item() == pytest.approx(0.780911, abs=1e-6)
    # d / d logprob = beta weight (sigmoid - target) / 4: 0.5 * 3 * (0.622459 - 1) / 4 = -0.141578
    # at both tokens of the first step, 0.5 * 0.817574 / 4 = 0.102197 at the other's.
    assert gradient[0].tolist() == pytest.approx([0, -0.141578, -0.141578, 0.102197], abs=1e-6)
    assert out.metrics["label_accuracy"].item() == pytest.approx(0.75)
    assert out.metrics["target_mean"].item() == pytest.approx(0.75)


def test_a_step_without_a_label_and_a_sequence_of_fewer_steps():
    # a: step 1 is masked; b has one step. Logits 0: each ln 2, weights 1 and 1.
    samples = samples_of(
        [make_sequence("a", [1, 2], masked_steps=[1]), make_sequence("b", [1])],
        [[0, 1, 0, 0], [0, 1]],
        [[0, 1, 0, 0], [0, 0]],
    )
    out, gradient = run(samples, [[0, 0, 7, 7], [0, 0]])
    assert out.loss.item() == pytest.approx(0.693147, abs=1e-6)
    assert gradient[0].tolist() == pytest.approx([0, -0.25, 0, 0])
    assert gradient[1].tolist() == pytest.approx([0, 0.25, 0, 0])


def test_a_steps_target_is_its_tokens_mean_by_weight():
    # Weights 3 and 1, targets 1 and 0: 0.75, whose least loss, at logit ln 3, is 0.562335.
    samples = samples_of([make_sequence("a", [2])], [[0, 3, 1]], [[0, 1, 0]])
    out, gradient = run(samples, [[0, 1.0986123, 0]])
    assert out.loss.item() == pytest.approx(0.562335, abs=1e-6)
    assert gradient.abs().max().item() == pytest.approx(0.0, abs=1e-7)


def test_a_negative_beta_is_refused():
    with pytest.raises(ValueError, match=r"loss\.beta is -0\.1; the smallest valid value is 0"):
        ImplicitStepLoss(beta=-0.1)
