from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlstep.losses.gaussian_label import GaussianLabelLoss
from rlstep.tensors.batching import count
from rlstep.types import LabelSamples
from tests.builders import make_batch, make_sequence
from tests.losses.test_cross_entropy import samples_of

LN2, LN3 = math.log(2.0), math.log(3.0)


def run(loss: GaussianLabelLoss, samples: LabelSamples, rows: list[list[tuple[float, float]]]):
    """rows: the logit and log sigma of every token, padded already."""
    predictions = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    out = loss(predictions, make_batch(samples), count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


def one_label(target: float, weight: float = 8.0) -> LabelSamples:
    return samples_of([make_sequence("a", [1])], [[0, weight]], [[0, target]])


@pytest.mark.parametrize(
    ("form", "log_sigma", "value", "of_logit", "of_log_sigma"),
    [
        # mu = sigmoid(0) = 1/2, y = 1: (mu - y)^2 = 1/4; d mu / d logit = 1/4.
        # sigma 1: 1/4 / 2 + 0; -1/2 * 1/4 / 1; 1 - 1/4.
        ("likelihood", 0.0, 0.125, -0.125, 0.75),
        # sigma 1/2 is the error itself: 1/2 - ln 2; -1/2 * 1/4 / (1/4); 1 - 1 = 0, the minimum.
        ("likelihood", -LN2, 0.5 - LN2, -0.5, 0.0),
        # 1/4 + 1; 2 * -1/2 * 1/4; 2 sigma^2 = 2, down whatever the label.
        ("sampled", 0.0, 1.25, -0.25, 2.0),
        # 1/4 + 1/4; 2 * 1/4.
        ("sampled", -LN2, 0.5, -0.25, 0.5),
    ],
)
def test_one_label_worked_by_hand(form, log_sigma, value, of_logit, of_log_sigma):
    loss = GaussianLabelLoss(form=form)
    out, gradient = run(loss, one_label(1.0), [[(9.0, 9.0), (0.0, log_sigma)]])
    assert out.loss.item() == pytest.approx(value)
    assert gradient[0, 0].tolist() == [0.0, 0.0]
    assert gradient[0, 1].tolist() == pytest.approx([of_logit, of_log_sigma])


def test_ragged_masked_weighted_worked_by_hand():
    # a: y = 1 and 0, weights 3 and 1; mu = 3/4 (logit ln 3) and 1/2, sigma 1/2 and 1.
    # 3 * (1/16 / (2 * 1/4) - ln 2) + 1 * (1/4 / 2 + 0) = 3 * (1/8 - ln 2) + 1/8, over 4.
    # b: its only step is masked, so neither sum nor denominator sees it.
    samples = samples_of(
        [make_sequence("a", [1, 1]), make_sequence("b", [2], masked_steps=[0])],
        [[0, 3, 1], [0, 0, 0]],
        [[0, 1, 0], [0, 0, 0]],
    )
    rows = [[(9.0, 9.0), (LN3, -LN2), (0.0, 0.0)], [(9.0, 9.0)] * 3]
    out, gradient = run(GaussianLabelLoss(), samples, rows)
    assert out.loss.item() == pytest.approx((0.5 - 3 * LN2) / 4)
    # (mu - y) mu (1 - mu) / sigma^2 and 1 - (mu - y)^2 / sigma^2, by weight over 4.
    expected = torch.zeros(2, 3, 2, dtype=torch.float64)
    expected[0, 1] = torch.tensor([-1 / 4 * 3 / 16 * 4, 1 - 1 / 16 * 4]) * 3 / 4
    expected[0, 2] = torch.tensor([1 / 2 * 1 / 4, 1 - 1 / 4]) / 4
    torch.testing.assert_close(gradient, expected)
    # (3 * 3/4 + 1/2) / 4, (3 * 1/16 + 1/4) / 4, (3 * 1/2 + 1) / 4, (3 * 1/4 + 1/4) / 4
    seen = {name: value.item() for name, value in out.metrics.items()}
    assert seen == pytest.approx(
        {
            "target_mean": 0.75,
            "prediction_mean": 0.6875,
            "squared_error": 0.109375,
            "sigma_mean": 0.625,
            "squared_error_in_sigmas": 0.25,
        }
    )


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_a_sure_model_is_the_plain_regressor(target: float):
    # sigma = e^-40: the paper's form is (mu - y)^2, with 2 (mu - y) mu (1 - mu).
    out, gradient = run(GaussianLabelLoss(form="sampled"), one_label(target), [[(9, 9), (0, -40)]])
    assert out.loss.item() == pytest.approx((0.5 - target) ** 2)
    assert gradient[0, 1].tolist() == pytest.approx([(0.5 - target) / 2, 0.0], abs=1e-12)


def test_the_sampled_form_is_the_mean_over_draws():
    mean, sigma, target = 0.75, 0.3, 0.2
    draws = np.random.default_rng(0).normal(size=400_000)
    sampled = ((mean + sigma * draws - target) ** 2).mean()
    loss = GaussianLabelLoss(form="sampled")
    out, _ = run(loss, one_label(target), [[(0, 0), (LN3, math.log(sigma))]])
    assert out.loss.item() == pytest.approx(sampled, abs=0.005)


def test_the_likelihood_finds_the_noise_and_the_sampled_form_does_not():
    """Labels 0.2 and 0.8 of one mean 1/2: their standard deviation is 0.3."""
    log_sigma = torch.linspace(-4.0, 0.0, 401, dtype=torch.float64)
    samples = samples_of([make_sequence("a", [1, 1])], [[0, 1, 1]], [[0, 0.2, 0.8]])

    def best(form) -> float:
        values = [
            run(GaussianLabelLoss(form=form), samples, [[(0, 0), (0, s), (0, s)]])[0].loss.item()
            for s in log_sigma.tolist()
        ]
        return math.exp(log_sigma[int(np.argmin(values))])

    assert best("likelihood") == pytest.approx(0.3, rel=0.01)
    assert best("sampled") == pytest.approx(math.exp(-4.0))  # the smallest there is


def test_under_the_least_sigma_nothing_pulls_further():
    # An exact label: the likelihood has no bound, so sigma is held at 1/4.
    loss = GaussianLabelLoss(least_sigma=0.25)
    out, gradient = run(loss, one_label(0.5), [[(0, 0), (0, -9.0)]])
    assert out.loss.item() == pytest.approx(math.log(0.25))
    assert gradient[0, 1].tolist() == [0.0, 0.0]


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"loss\.least_sigma is 0.0; it must be above 0"):
        GaussianLabelLoss(least_sigma=0.0)
