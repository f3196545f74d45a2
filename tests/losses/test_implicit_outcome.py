from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rlstep.losses.implicit_outcome import ImplicitOutcomeLoss
from rlstep.tensors.batching import collate, count
from rlstep.types import LabelSamples, Sequence
from tests.builders import double, make_sequence, pad_rows, zero_logprobs


def labels(*rows: tuple[Sequence, float]) -> LabelSamples:
    ones = tuple(s.loss_mask.astype(np.float32) for s, _ in rows)
    return LabelSamples(
        sequences=tuple(s for s, _ in rows),
        targets=tuple(o * row for row, (_, o) in zip(ones, rows, strict=True)),
        weights=ones,
    )


def run(samples: LabelSamples, rows: list[list[float]], beta: float = 0.1):
    predictions = pad_rows(rows)
    zeros = zero_logprobs(samples)
    batch: Any = double(collate(samples, zeros, zeros))
    out = ImplicitOutcomeLoss(beta=beta)(predictions, batch, count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


def test_one_completion_worked_by_hand():
    # Log-ratios (2, -1, 3), beta 0.1: Q = 0.4, sigmoid(0.4) = 0.598688, -ln 0.598688 = 0.513015.
    out, gradient = run(labels((make_sequence("a", [2, 1]), 1.0)), [[0, 2, -1, 3]])
    assert out.loss.item() == pytest.approx(0.513015, abs=1e-6)
    # dL/dlogprob = beta (sigmoid(Q) - o) = 0.1 (0.598688 - 1) = -0.040131 at every token.
    assert gradient[0].tolist() == pytest.approx([0, -0.040131, -0.040131, -0.040131], abs=1e-6)
    assert out.metrics["outcome_accuracy"].item() == 1.0
    assert out.metrics["implicit_logit"].item() == pytest.approx(0.4)


def test_ragged_and_masked_completions_worked_by_hand():
    # b: step 0 is masked, so only -2 and 1 count: Q = -0.1, o = 0: -ln sigmoid(0.1) = 0.644397.
    # c: Q = 0.5, o = 0: -ln sigmoid(-0.5) = 0.974077. Mean with the 0.513015 of above: 0.710496.
    samples = labels(
        (make_sequence("a", [2, 1]), 1.0),
        (make_sequence("b", [1, 2], masked_steps=[0]), 0.0),
        (make_sequence("c", [1]), 0.0),
    )
    out, gradient = run(samples, [[0, 2, -1, 3], [0, 70, -2, 1], [0, 5]])
    assert out.loss.item() == pytest.approx(0.710496, abs=1e-6)
    assert gradient[1, 1].item() == 0.0
    # c: 0.1 sigmoid(0.5) / 3 = 0.1 * 0.622459 / 3 = 0.020749.
    assert gradient[2].tolist() == pytest.approx([0, 0.020749, 0, 0], abs=1e-6)
    assert out.metrics["outcome_accuracy"].item() == pytest.approx(2 / 3)


def test_a_soft_outcome_is_reached_at_its_own_logit():
    # o = 0.75: the least value is the entropy 0.562335, at Q = ln 3.
    out, gradient = run(labels((make_sequence("a", [1]), 0.75)), [[0, math.log(3.0)]], beta=1.0)
    assert out.loss.item() == pytest.approx(0.562335, abs=1e-6)
    assert gradient.abs().max().item() == pytest.approx(0.0, abs=1e-12)


def test_a_negative_beta_is_refused():
    with pytest.raises(ValueError, match=r"loss\.beta is -0\.1; the smallest valid value is 0"):
        ImplicitOutcomeLoss(beta=-0.1)
