from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.losses.reinforce import Reinforce
from tests.losses.policy_gradient_kit import close, one_token, ragged, run


def test_one_token_worked_by_hand():
    out, gradient = run(Reinforce(), one_token(2.0), [[0.0, -1.5]])
    assert out.loss.item() == 3.0  # -2 * -1.5
    assert gradient.tolist() == [[0.0, -2.0]]


def test_ragged_masked_worked_by_hand():
    # -(1 * -1 + 1 * -2 - 2 * -4) / 3 = -5 / 3; gradients -A / 3.
    out, gradient = run(Reinforce(), ragged(), [[5.0, -1.0, -2.0], [5.0, 50.0, -4.0]])
    assert out.loss.item() == pytest.approx(-5 / 3)
    close(gradient, [[0, -1 / 3, -1 / 3], [0, 0, 2 / 3]])


def test_it_knows_no_older_policy():
    assert Reinforce().reads == frozenset()
    rows, old = [[0.0, -1.5]], [[0.0, -9.0]]
    one, _ = run(Reinforce(), one_token(2.0), rows)
    other, _ = run(Reinforce(), one_token(2.0), rows, old_logprobs=old)
    assert one.loss == other.loss and one.metrics == other.metrics == {}


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_its_mean_is_the_gradient_of_the_expected_advantage(seed: int):
    """Summed over all tokens that the policy may draw, by their probability."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, dtype=torch.float64, generator=random).requires_grad_()
    advantages = torch.randn(5, generator=random).double()
    logprobs = logits.log_softmax(-1)
    (exact,) = torch.autograd.grad(-(logprobs.exp() * advantages).sum(), logits, retain_graph=True)
    by_token = torch.stack(
        [
            run(Reinforce(), one_token(a), [[0.0, p]])[1][0, 1]
            for a, p in zip(advantages.tolist(), logprobs.tolist(), strict=True)
        ]
    )
    weights = logprobs.detach().exp() * by_token
    (estimate,) = torch.autograd.grad((weights * logprobs).sum(), logits)
    torch.testing.assert_close(estimate, exact)
