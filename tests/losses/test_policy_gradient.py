"""What all policy gradients share: the clipped surrogate, the ratio's level, the entropy bonus."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlstep.interfaces import AdvantageBatch
from rlstep.losses.bgpo import Bgpo
from rlstep.losses.cispo import Cispo
from rlstep.losses.correction import Correction
from rlstep.losses.dapo import Dapo
from rlstep.losses.dr_grpo import DrGrpo
from rlstep.losses.grpo import Grpo
from rlstep.losses.gspo import Gspo
from rlstep.losses.kl import Kl
from rlstep.losses.policy_gradient import Clip, PolicyGradient
from rlstep.losses.ppo import Ppo
from rlstep.losses.reinforce import Reinforce
from rlstep.tensors.batching import collate, count
from tests.builders import make_batch, make_sequence, pad_rows
from tests.losses.policy_gradient_kit import RAGGED_ROWS, close, one_token, ragged, run, samples_of

NAMED = [Ppo(), Grpo(), DrGrpo(), Dapo(), Gspo(), Cispo(), Reinforce(), Bgpo()]


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
    out, gradient = run(PolicyGradient(), one_token(advantage), [[0.0, math.log(rho)]])
    assert out.loss.item() == pytest.approx(loss)
    assert gradient[0, 1].item() == pytest.approx(slope)
    assert out.metrics["clip_fraction"].item() == clipped


def test_ragged_masked_token_mean_worked_by_hand():
    # Gains 1, 1.1 and 0.9 * -2 = -1.8: sum 0.3 over 3 trained tokens. Gradients -rho A / 3.
    out, gradient = run(PolicyGradient(), ragged(), RAGGED_ROWS)
    assert out.loss.item() == pytest.approx(-0.1)
    close(gradient, [[0, -1 / 3, -1.1 / 3], [0, 0, 0.6]])
    # k3 of log rho: rho - 1 - ln rho = 0, 0.1 - ln 1.1 and -0.1 - ln 0.9.
    drift = (0.1 - math.log(1.1) - 0.1 - math.log(0.9)) / 3
    assert out.metrics["policy_change"].item() == pytest.approx(drift)


def test_sequence_level_worked_by_hand():
    # Log-ratios 0.3 and 0.1 give both tokens rho = e^0.2 = 1.221403; A = 1 and -1. Clip at 1.1:
    # token 1: min(1.221403, 1.1) = 1.1, clipped, no gradient; token 2: -1.221403, gradient to
    # itself alone. Loss (-1.1 + 1.221403) / 2, gradient 1.221403 / 2.
    samples = samples_of([make_sequence("a", [2])], [[0, 1, -1]])
    loss = PolicyGradient(surrogate=Clip(low=0.1, high=0.1), level="sequence")
    out, gradient = run(loss, samples, [[0.0, 0.3, 0.1]])
    assert out.loss.item() == pytest.approx(0.0607014, abs=1e-6)
    close(gradient, [[0, 0, 0.6107014]])
    assert out.metrics["clip_fraction"].item() == 0.5


def test_entropy_bonus_worked_by_hand():
    # -1 - 0.5 * 2: the gradient is -0.5 by the entropy and -1 by the logprob (rho = 1).
    samples = one_token(1.0)
    logprobs, entropies = pad_rows([[0.0, 0.0]]), pad_rows([[math.nan, 2.0]])
    loss = Ppo(entropy=0.5)
    assert loss.reads == {"old_logprobs", "entropies"}
    out = loss(torch.stack([logprobs, entropies], -1), make_batch(samples), count(samples))
    by_logprob, by_entropy = torch.autograd.grad(out.loss, [logprobs, entropies])
    assert out.loss.item() == -2.0 and out.metrics["entropy"].item() == 2.0
    assert by_logprob.tolist() == [[0.0, -1.0]] and by_entropy.tolist() == [[0.0, -0.5]]


def test_entropy_bonus_has_the_losss_own_mean():
    # Per sequence: (1 + 3) / 2 = 2 and 5: mean 3.5. Over all tokens: 9 / 3 = 3. No advantages.
    samples = samples_of(ragged().sequences, [[0, 0, 0], [0, 0, 0]])
    logprobs, entropies = pad_rows(RAGGED_ROWS), pad_rows([[0, 1, 3], [0, 9, 5]])
    both, batch = torch.stack([logprobs, entropies], -1), make_batch(samples)
    for loss, bonus in ((Gspo(entropy=0.1), 3.5), (Dapo(entropy=0.1), 3.0)):
        out = loss(both, batch, count(samples))
        assert out.loss.item() == pytest.approx(-0.1 * bonus)
        assert out.metrics["entropy"].item() == pytest.approx(3.0)  # metrics are token means


@pytest.mark.parametrize("loss", NAMED, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("gap", [-20.0, 20.0])
def test_far_off_policies_stay_finite_in_float32(loss: PolicyGradient, gap: float):
    """1,000 steps of a token, 20 nats from everything else, beside a sequence that is all masked
    and one whose advantages are all 0."""
    samples = samples_of(
        [
            make_sequence("far", [1] * 1000),
            make_sequence("masked", [1], masked_steps=[0]),
            make_sequence("flat", [1]),
        ],
        [[1.0, -1.0] * 500 + [1.0], [0.0, 1.0], [0.0, 0.0]],
    )
    zeros = [np.zeros(len(s.token_ids), np.float32) for s in samples.sequences]
    batch = collate(samples, zeros, zeros)
    assert isinstance(batch, AdvantageBatch)
    predictions = torch.full(batch.token_ids.shape, gap, requires_grad=True)
    out = loss(predictions, batch, count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    assert out.loss.isfinite() and gradient.isfinite().all()
    assert all(value.isfinite() for value in out.metrics.values())
    assert (gradient[1] == 0.0).all()
    if not loss.kl.coefficient:
        assert (gradient[2] == 0.0).all()


def test_it_reads_what_its_parts_read():
    assert PolicyGradient().reads == {"old_logprobs"}
    assert PolicyGradient(kl=Kl(coefficient=0.1)).reads == {"old_logprobs", "ref_logprobs"}
    parts = Reinforce(correction=Correction(mode="truncate"), entropy=0.01)
    assert parts.reads == {"old_logprobs", "entropies"}


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"loss\.entropy is -0.1; the smallest valid value is 0"):
        PolicyGradient(entropy=-0.1)


@pytest.mark.parametrize(
    ("field", "value", "nearest"), [("low", -0.1, "0"), ("high", -0.1, "0"), ("dual", 0.5, "1")]
)
def test_bad_clips_are_refused(field: str, value: float, nearest: str):
    with pytest.raises(ValueError, match=rf"loss\.surrogate\.{field}.* is {value}; .* {nearest}"):
        Clip(**{field: value})
