"""Distillation as a loss of its own, and beside a policy gradient."""

from __future__ import annotations

import math

import pytest
import torch

from rlstep.losses.distillation import Distillation
from rlstep.losses.divergence import ForwardKl, ReverseKl
from rlstep.losses.policy_gradient import PolicyGradient
from rlstep.losses.ppo import Ppo
from rlstep.tensors.batching import count
from rlstep.types import LabelSamples
from tests.builders import make_batch, make_sequence, pad_rows
from tests.losses.policy_gradient_kit import close, one_token, ragged


def two_sequences() -> LabelSamples:
    """Two trained tokens; and one behind a masked step, of weight 2."""
    sequences = (make_sequence("0", [2]), make_sequence("1", [1, 1], masked_steps=[0]))
    columns = tuple(pad_rows([[0, 1, 1], [0, 9, 2]]).detach().float().numpy())
    return LabelSamples(sequences=sequences, targets=columns, weights=columns)


def test_the_mean_by_weight_by_hand():
    samples = two_sequences()
    logprobs = pad_rows([[0, -1, -2], [0, math.nan, -3]])
    divergences = pad_rows([[0, 0.5, 0.1], [0, math.nan, 0.3]])
    out = Distillation()(
        torch.stack([logprobs, divergences], -1), make_batch(samples), count(samples)
    )
    # Weights 1, 1 and 2: (0.5 + 0.1 + 2 * 0.3) / 4 = 0.3; nll (1 + 2 + 2 * 3) / 4 = 2.25.
    assert out.loss.item() == pytest.approx(0.3)
    assert {k: v.item() for k, v in out.metrics.items()} == pytest.approx(
        {"divergence": 0.3, "nll": 2.25}
    )
    by_logprob, by_divergence = torch.autograd.grad(out.loss, [logprobs, divergences])
    assert not by_logprob.any()  # the sampled token itself is not what is learnt
    close(by_divergence, [[0, 0.25, 0.25], [0, 0, 0.5]])


def test_a_loss_says_which_divergence():
    logits, reference = torch.tensor([[[0.0, 0.0]] * 2]), torch.tensor([[[0.0, math.log(3.0)]] * 2])
    for loss in (
        Distillation(divergence=ForwardKl()),
        Ppo(divergence=ForwardKl(), distillation=1.0),
    ):
        found = loss.divergences(logits, reference, 1.0)
        # 1/4 ln(1/2) + 3/4 ln(3/2)
        assert found[0, 1].item() == pytest.approx(0.75 * math.log(1.5) - 0.25 * math.log(2.0))
        assert "divergences" in loss.reads


def test_beside_a_policy_gradient_by_hand():
    """rho = 1, A = 2 and D = 0.3 at the one token: -2 + 0.5 * 0.3; with an entropy of 0.7 and a
    bonus of 0.1 also -0.07."""
    samples = one_token(2.0)
    batch, counts = make_batch(samples), count(samples)
    logprobs, entropies, divergences = (pad_rows([[0, x]]) for x in (0.0, 0.7, 0.3))
    mixed = Ppo(distillation=0.5)
    out = mixed(torch.stack([logprobs, divergences], -1), batch, counts)
    assert out.loss.item() == pytest.approx(-2.0 + 0.15)
    assert out.metrics["divergence"].item() == pytest.approx(0.3)
    by_logprob, by_divergence = torch.autograd.grad(out.loss, [logprobs, divergences])
    close(by_logprob, [[0, -2.0]])
    close(by_divergence, [[0, 0.5]])
    both = Ppo(distillation=0.5, entropy=0.1)
    assert both.reads == {"old_logprobs", "entropies", "divergences"}
    out = both(torch.stack([logprobs, entropies, divergences], -1), batch, counts)
    assert out.loss.item() == pytest.approx(-2.0 + 0.15 - 0.07)
    seen = {name: out.metrics[name].item() for name in ("entropy", "divergence")}
    assert seen == pytest.approx({"entropy": 0.7, "divergence": 0.3})


def test_what_is_off_is_not_read():
    loss, samples = PolicyGradient(divergence=ReverseKl(top_k=4)), ragged()
    assert loss.reads == {"old_logprobs"}
    out = loss(pad_rows([[0, 0, 0], [0, 0, 0]]), make_batch(samples), count(samples))
    assert "divergence" not in out.metrics


def test_a_negative_coefficient_is_refused():
    with pytest.raises(
        ValueError, match=r"loss\.distillation is -0\.1; the smallest valid value is 0"
    ):
        PolicyGradient(distillation=-0.1)
