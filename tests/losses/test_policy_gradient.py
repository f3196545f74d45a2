from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlstep.batching import AdvantageBatch, count
from rlstep.losses.policy_gradient import ClippedPolicyGradient
from rlstep.types import AdvantageSamples, Sequence
from tests.builders import make_batch, make_sequence, pad_rows


def samples_of(sequences: list[Sequence], advantages: list[list[float]]) -> AdvantageSamples:
    columns = tuple(np.array(row, dtype=np.float32) for row in advantages)
    return AdvantageSamples(sequences=tuple(sequences), advantages=columns, groups=1)


def one_token(advantage: float) -> AdvantageSamples:
    return samples_of([make_sequence("a", [1])], [[0.0, advantage]])


def value(loss: ClippedPolicyGradient, samples: AdvantageSamples, rows: Seq[Seq[float]]):
    predictions = pad_rows(rows)
    out = loss(predictions, make_batch(samples), count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


@pytest.mark.parametrize(
    ("rho", "advantage", "loss", "slope", "clipped"),
    [
        # min(1.5 * 2, 1.2 * 2) = 2.4: clipped, no gradient.
        (1.5, 2.0, -2.4, 0.0, 1.0),
        # min(0.5 * -1, 0.8 * -1) = -0.8: clipped, no gradient.
        (0.5, -1.0, 0.8, 0.0, 1.0),
        # min(0.5 * 2, 0.8 * 2) = 1: not clipped, gradient -rho A = -1.
        (0.5, 2.0, -1.0, -1.0, 0.0),
        # min(1.5 * -1, 1.2 * -1) = -1.5: not clipped, gradient -rho A = 1.5.
        (1.5, -1.0, 1.5, 1.5, 0.0),
    ],
)
def test_clipping_worked_by_hand(rho, advantage, loss, slope, clipped):
    out, gradient = value(ClippedPolicyGradient(), one_token(advantage), [[0.0, math.log(rho)]])
    assert out.loss.item() == pytest.approx(loss)
    assert gradient[0, 1].item() == pytest.approx(slope)
    assert out.metrics["clip_fraction"].item() == clipped


def test_the_two_bounds_are_separate():
    # rho 1.25 is inside [0.8, 1.28] and outside [0.8, 1.2].
    rows = [[0.0, math.log(1.25)]]
    assert value(ClippedPolicyGradient(clip_high=0.28), one_token(1.0), rows)[0].loss.item() == (
        pytest.approx(-1.25)
    )
    assert value(ClippedPolicyGradient(), one_token(1.0), rows)[0].loss.item() == (
        pytest.approx(-1.2)
    )


def test_ragged_masked_token_mean_worked_by_hand():
    # Sequence 0: 2 tokens, A = 1, rho = 1 and 1.1. Sequence 1: steps of 1 and 1, the first masked,
    # A = -2, rho = 0.9. Sum of gains: 1 + 1.1 - 1.8 = 0.3 over 3 trained tokens: loss -0.1.
    samples = samples_of(
        [make_sequence("0", [2]), make_sequence("1", [1, 1], masked_steps=[0])],
        [[0, 1, 1], [0, 0, -2]],
    )
    rows = [[0.0, 0.0, math.log(1.1)], [0.0, 50.0, math.log(0.9)]]
    out, gradient = value(ClippedPolicyGradient(), samples, rows)
    assert out.loss.item() == pytest.approx(-0.1)
    # -rho A / 3
    expected = torch.tensor([[0.0, -1 / 3, -1.1 / 3], [0.0, 0.0, 0.6]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected)


def test_kl_worked_by_hand():
    # ref 0, policy 0.5: d = -0.5, k3 = e^-0.5 + 0.5 - 1 = 0.106531; old = policy, so rho = 1 and
    # the loss is -1 + 0.1 * 0.106531. d k3 / d policy = 1 - e^d = 0.393469.
    predictions = pad_rows([[0.0, 0.5]])
    samples = one_token(1.0)
    batch = replace(make_batch(samples), old_logprobs=predictions.detach())
    out = ClippedPolicyGradient(kl=0.1)(predictions, batch, count(samples))
    assert out.loss.item() == pytest.approx(-1.0 + 0.0106531, abs=1e-6)
    assert out.metrics["kl"].item() == pytest.approx(0.106531, abs=1e-6)
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    assert gradient[0, 1].item() == pytest.approx(-1.0 + 0.0393469, abs=1e-6)


def with_gap(samples: AdvantageSamples, gap: float) -> AdvantageBatch:
    """old - rollout = gap everywhere."""
    batch = make_batch(samples)
    assert isinstance(batch, AdvantageBatch)
    return replace(batch, rollout_logprobs=batch.old_logprobs - gap)


@pytest.mark.parametrize(("gap", "weight"), [(math.log(1.5), 1.5), (math.log(8.0), 2.0)])
def test_sampler_mismatch_is_corrected_up_to_the_cap(gap: float, weight: float):
    samples = one_token(1.0)
    predictions = pad_rows([[0.0, 0.0]])
    out = ClippedPolicyGradient(mismatch_cap=2.0)(
        predictions, with_gap(samples, gap), count(samples)
    )
    assert out.loss.item() == pytest.approx(-weight)
    assert out.metrics["mismatch"].item() == pytest.approx(gap)


def test_without_a_cap_the_mismatch_is_only_logged():
    samples = one_token(1.0)
    out = ClippedPolicyGradient()(pad_rows([[0.0, 0.0]]), with_gap(samples, 0.5), count(samples))
    assert out.loss.item() == pytest.approx(-1.0)
    assert out.metrics["mismatch"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("field", ["clip_low", "clip_high", "kl", "mismatch_cap"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is -0.1; the smallest valid value is 0"):
        replace(ClippedPolicyGradient(), **{field: -0.1})
