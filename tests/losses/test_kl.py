from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import ESTIMATORS, Kl, k1, k2, k3, suffix_sums
from rlstep.losses.ppo import Ppo
from tests.builders import make_batch, make_sequence
from tests.losses.policy_gradient_kit import close, one_token, run, samples_of

# One token with policy 0.5 and reference 0, so d = -0.5; old = policy, so rho = 1.
DRIFTED = [[0.0, 0.5]]


@pytest.mark.parametrize(
    ("estimator", "value", "slope"),
    [
        ("k1", 0.5, 1.0),
        ("k2", 0.125, 0.5),  # slope -d
        ("k3", 0.106531, 0.393469),  # e^-0.5 + 0.5 - 1, slope 1 - e^-0.5
    ],
)
def test_in_the_loss_worked_by_hand(estimator, value, slope):
    loss = Ppo(kl=Kl(coefficient=0.1, estimator=estimator))
    out, gradient = run(loss, one_token(1.0), DRIFTED, old_logprobs=DRIFTED)
    assert out.loss.item() == pytest.approx(-1.0 + 0.1 * value, abs=1e-6)
    assert out.metrics["kl"].item() == pytest.approx(value, abs=1e-6)
    assert gradient[0, 1].item() == pytest.approx(-1.0 + 0.1 * slope, abs=1e-6)


@pytest.mark.parametrize(("estimator", "value"), [("k1", 0.5), ("k2", 0.125), ("k3", 0.106531)])
def test_in_the_reward_worked_by_hand(estimator, value):
    # A = 1 - 0.1 value, a constant: the loss and its gradient are both -A.
    loss = Ppo(kl=Kl(coefficient=0.1, estimator=estimator, place="reward"))
    out, gradient = run(loss, one_token(1.0), DRIFTED, old_logprobs=DRIFTED)
    assert out.loss.item() == pytest.approx(-1.0 + 0.1 * value, abs=1e-6)
    assert gradient[0, 1].item() == pytest.approx(-1.0 + 0.1 * value, abs=1e-6)
    assert out.metrics["kl"].item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("loss", [Grpo, Ppo])
def test_a_rollout_without_an_advantage_feels_the_penalty(loss):
    """An answer of a group that is all right: nothing but beta (1 - e^-0.5), k3's slope."""
    penalized = loss(kl=Kl(coefficient=0.1, estimator="k3"))
    _, gradient = run(penalized, one_token(0.0), DRIFTED, old_logprobs=DRIFTED)
    assert gradient[0, 1].item() == pytest.approx(0.1 * 0.393469, abs=1e-6)


def test_the_penalty_is_a_return_to_go_over_trained_tokens():
    # k1 = policy - ref. Row 0: k1 = 1, 2 and 4 with the middle step masked: suffix sums 5, -, 4.
    # Row 1: 3. Coefficient 0.1, A = 1 everywhere: A becomes 0.5, -, 0.6 and 0.7. rho = 1.
    samples = samples_of(
        [make_sequence("0", [1, 1, 1], masked_steps=[1]), make_sequence("1", [1])],
        [[0, 1, 1, 1], [0, 1]],
    )
    rows = [[7.0, 1.0, 2.0, 4.0], [7.0, 3.0]]
    loss = Ppo(kl=Kl(coefficient=0.1, estimator="k1", place="reward"))
    out, gradient = run(loss, samples, rows, old_logprobs=rows)
    assert out.loss.item() == pytest.approx(-(0.5 + 0.6 + 0.7) / 3)
    close(gradient, [[0, -0.5 / 3, 0, -0.6 / 3], [0, -0.7 / 3, 0, 0]])


def test_suffix_sums():
    assert suffix_sums(torch.tensor([[1.0, 2.0, 4.0]])).tolist() == [[7.0, 6.0, 4.0]]


def both_ways(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a policy, its logprobs and a reference's, over five tokens."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, dtype=torch.float64, generator=random).requires_grad_()
    ref = torch.randn(5, dtype=torch.float64, generator=random).log_softmax(-1)
    return logits, logits.log_softmax(-1), ref


def terms(kl: Kl, logprobs: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
    """What `kl` adds to the loss, or takes off the advantage, for each token that may be drawn:
    five sequences of one trained token."""
    batch = make_batch(samples_of([make_sequence(f"{i}", [1]) for i in range(5)], [[0, 0]] * 5))
    batch.ref_logprobs[:, 1] = ref
    cost, penalty, _ = kl(torch.nn.functional.pad(logprobs[:, None], (1, 0)), batch)
    return cost[:, 1], penalty[:, 1]


def grad(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_which_estimators_are_unbiased(seed: int):
    """The sums over all tokens that the policy may draw are the exact expectations."""
    logits, logprobs, ref = both_ways(seed)
    drawn = logprobs.detach().exp()
    forward = (logprobs.exp() * (logprobs - ref)).sum()  # KL(policy, reference)
    backward = (ref.exp() * (ref - logprobs)).sum()
    none = torch.zeros_like(logits)

    values, in_loss, in_reward = {}, {}, {}
    for name in ("k1", "k2", "k3"):
        cost, _ = terms(Kl(coefficient=1.0, estimator=name), logprobs, ref)
        values[name], in_loss[name] = (drawn * cost).sum(), grad((drawn * cost).sum(), logits)
        _, penalty = terms(Kl(coefficient=1.0, estimator=name, place="reward"), logprobs, ref)
        assert not penalty.requires_grad
        in_reward[name] = grad((drawn * penalty * logprobs).sum(), logits)

    torch.testing.assert_close(values["k1"], forward)
    torch.testing.assert_close(values["k3"], forward)
    torch.testing.assert_close(in_loss["k1"], none)
    torch.testing.assert_close(in_loss["k2"], grad(forward, logits))
    torch.testing.assert_close(in_loss["k3"], grad(backward, logits))
    torch.testing.assert_close(in_reward["k1"], grad(forward, logits))
    # k3 as a reward has the difference of both, which is not the KL's.
    torch.testing.assert_close(in_reward["k3"], grad(forward - backward, logits))


def test_k2_is_biased_in_value_and_in_the_reward():
    logits, logprobs, ref = both_ways(0)
    drawn = logprobs.detach().exp()
    exact = (logprobs.exp() * (logprobs - ref)).sum()
    estimate = k2(ref - logprobs).detach()
    assert abs((drawn * estimate).sum() - exact) > 0.05
    bias = grad((drawn * estimate * logprobs).sum(), logits) - grad(exact, logits)
    assert bias.abs().max() > 0.05


@given(d=st.floats(-20, 20))
def test_k2_and_k3_are_not_negative_and_small_k3_is_exact(d: float):
    at = torch.tensor(d)
    assert k1(at) == -at and k2(at) >= 0.0 and k3(at) >= 0.0
    # e^d - d - 1 is 0 in float32 for such a d, where expm1 gives d^2 / 2 + d^3 / 6.
    assert k3(torch.tensor(1e-3)).item() == pytest.approx(5.0017e-7, rel=0.05)


def test_off_reads_no_reference_and_gives_no_metric():
    assert Kl().reads == frozenset() and Kl(coefficient=0.1).reads == {"ref_logprobs"}
    out, _ = run(Ppo(), one_token(1.0), [[0.0, 0.0]], ref_logprobs=[[0.0, math.nan]])
    assert out.loss.item() == -1.0 and "kl" not in out.metrics


def test_every_estimator_has_a_name_and_bad_values_are_refused():
    assert set(ESTIMATORS) == {"k1", "k2", "k3"}
    with pytest.raises(ValueError, match=r"loss\.kl\.coefficient is -0.1; .* 0"):
        Kl(coefficient=-0.1)
