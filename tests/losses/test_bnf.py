from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlstep.interfaces import PairBatch
from rlstep.losses.bnf import Bnf, push
from rlstep.tensors.batching import count
from rlstep.tensors.logprobs import token_logprobs
from tests.builders import make_batch, make_sequence
from tests.losses.pairwise import close, one_token, pairs, ragged, run

L2, L4, L8 = math.log(2.0), math.log(4.0), math.log(0.8)


def test_one_pair_worked_by_hand():
    # Chosen: p 1/2 under q 0.8: w = (p / q) (1 - q) / (1 - p) = 0.625 * 0.2 / 0.5 = 0.25.
    # Rejected: p 1/2 over q 1/4: w = 1. Gradient by the logprobs -0.25 and 1;
    # value 0.25 ln 2 - ln 2 = -0.519860.
    rows, ref = [[0.0, -L2], [0.0, -L2]], [[0.0, L8], [0.0, -L4]]
    out, gradient = run(Bnf(), one_token(), rows, ref)
    close(gradient, [[0, -0.25], [0, 1]], 1e-12)
    assert out.loss.item() == pytest.approx(-0.519860, abs=1e-6)


def test_ragged_masked_pairs_worked_by_hand():
    # s0 (chosen twice): p = q = 1/2 on both tokens, w = 1 exactly. s1: first step masked, then 1/2
    # under 0.8: 0.25. s2: 1/2 over 1/4, w 1, and 1/4 under 1/2: 0.5 * 0.5 / 0.75 = 1/3.
    # Two pairs; every sequence over its own length: s0 -2/2/2 = -1/2 a token, s1 0.25/1/2,
    # s2 1/2/2 and 1/3/2/2.
    rows = [[0.0, -L2, -L2], [0.0, -9.0, -L2], [0.0, -L2, -L4]]
    ref = [[0.0, -L2, -L2], [0.0, -1.0, L8], [0.0, -L4, -L2]]
    _, gradient = run(Bnf(), ragged(), rows, ref)
    close(gradient, [[0, -0.5, -0.5], [0, 0, 0.125], [0, 0.25, 1 / 12]], 1e-12)


# --- against the loss as the paper writes it, over a whole vocabulary ----------------------------


def dense(logits: Tensor, batch: PairBatch, pairs: int) -> Tensor:
    """Soft cross-entropy with the detached target over the vocabulary, by autograd."""
    logprobs = logits[:, :-1].log_softmax(-1)  # [N, L - 1, V]
    pi = logprobs.exp().detach()
    labels = batch.token_ids[:, 1:, None]
    p, q = pi.gather(-1, labels), batch.ref_logprobs[:, 1:, None].exp()
    f_label = (p / q).clamp(max=1.0)
    target = ((1.0 - f_label) * pi / (1.0 - p)).scatter(-1, labels, f_label)
    entropies = (target * logprobs).sum(-1)  # [N, L - 1]
    mask = batch.loss_mask[:, 1:]
    means = (entropies * mask).sum(1) / mask.sum(1)
    return (means[batch.rejected] - means[batch.chosen]).sum() / pairs


def both_gradients(logits: Tensor, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """By the logits: the paper's loss over the vocabulary, and ours over the tokens' logprobs."""
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(dense(leaf, batch, len(batch.chosen)), leaf)
    leaf = logits.clone().requires_grad_()
    counts = count(SAMPLES)
    loss = Bnf()(token_logprobs(leaf, batch.token_ids), batch, counts).loss
    (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient, expected


SAMPLES = pairs(
    make_sequence("0", [2, 1]),
    make_sequence("1", [1, 1], masked_steps=[0]),
    make_sequence("2", [1]),
    places=((0, 1), (0, 2), (2, 1)),
)
VOCABULARY = 6
SEEDS = st.integers(0, 2**32 - 1)


def batch_near(logits: Tensor, gaps: Tensor) -> PairBatch:
    """The reference's logprobs are the policy's plus the gaps, at most just under 0."""
    batch = make_batch(SAMPLES)
    assert isinstance(batch, PairBatch)
    now = token_logprobs(logits, batch.token_ids)
    return replace(batch, ref_logprobs=(now + gaps).clamp(max=-1e-3))


@given(seed=SEEDS, scale=st.sampled_from([0.1, 1.0, 4.0]))
def test_the_gradient_is_that_of_the_loss_over_the_vocabulary(seed: int, scale: float):
    """Tokens above and below the reference, on both sides."""
    random = torch.Generator().manual_seed(seed)
    shape = (*make_batch(SAMPLES).token_ids.shape, VOCABULARY)
    logits = scale * torch.randn(shape, generator=random, dtype=torch.float64)
    gaps = torch.randn(shape[:2], generator=random, dtype=torch.float64)
    gradient, expected = both_gradients(logits, batch_near(logits, gaps))
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("gap", [0.0, 1e-6, -1e-6, 0.5, -0.5, -30.0])
def test_the_gradient_is_that_of_the_loss_at_p_equal_to_above_and_below_q(gap: float):
    random = torch.Generator().manual_seed(0)
    shape = (*make_batch(SAMPLES).token_ids.shape, VOCABULARY)
    logits = torch.randn(shape, generator=random, dtype=torch.float64)
    batch = batch_near(logits, torch.full(shape[:2], gap, dtype=torch.float64))
    gradient, expected = both_gradients(logits, batch)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)
    assert (gradient[:, :-1][batch.loss_mask[:, 1:]] != 0.0).any()


@pytest.mark.parametrize("lift", [12.0, -12.0])
def test_the_gradient_goes_to_0_at_both_ends(lift: float):
    """The label's logit far up (p -> 1) or far down (p -> 0), under q = 1/2."""
    batch = make_batch(SAMPLES)
    assert isinstance(batch, PairBatch)
    batch = replace(batch, ref_logprobs=torch.full_like(batch.ref_logprobs, math.log(0.5)))
    logits = torch.zeros(*batch.token_ids.shape, VOCABULARY, dtype=torch.float64)
    logits[:, :-1] = logits[:, :-1].scatter(-1, batch.token_ids[:, 1:, None], lift)
    gradient, expected = both_gradients(logits, batch)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)
    assert 0.0 < gradient.abs().max() < 1e-4


def test_the_papers_gradient_at_the_label():
    # Magnitude p (1 / q - 1) where p < q, 1 - p otherwise: 0.5, 0.8 -> 0.125; 0.5, 0.5 -> 0.5.
    for q, magnitude in ((0.8, 0.125), (0.5, 0.5), (0.25, 0.5)):
        samples = one_token()
        batch = make_batch(samples)
        batch = replace(batch, ref_logprobs=torch.full_like(batch.ref_logprobs, math.log(q)))
        logits = torch.zeros(2, 2, 3, dtype=torch.float64)
        logits[:, 0, 2] = L2  # token 2 has 1/2, the other two 1/4 each
        logits.requires_grad_()
        out = Bnf()(token_logprobs(logits, batch.token_ids), batch, count(samples))
        (gradient,) = torch.autograd.grad(out.loss, logits)
        assert gradient[0, 0, 2].item() == pytest.approx(-magnitude)
        torch.testing.assert_close(gradient[0], -gradient[1])  # chosen and rejected are opposite


# --- the push ------------------------------------------------------------------------------------

LOGPROBS = st.floats(-60.0, 0.0)


@given(p=LOGPROBS, q=LOGPROBS)
def test_the_push_lies_between_0_and_1_and_is_1_from_the_reference_on(p: float, q: float):
    w = push(torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)).item()
    assert 0.0 <= w <= 1.0 + 1e-12
    if p >= q:
        assert w == 1.0


def test_the_push_where_one_minus_p_cancels():
    # p = 1 - 3e-12 and q = 1 - 1e-12 to first order: w = (p / q) (1 - q) / (1 - p) = 1/3. The
    # plain difference 1 - p is right to 4 digits only.
    w = push(torch.tensor(-3e-12, dtype=torch.float64), torch.tensor(-1e-12, dtype=torch.float64))
    assert w.item() == pytest.approx(1 / 3, rel=1e-9)


def test_the_push_in_float32_of_a_certain_token():
    certain = torch.zeros(1)
    assert push(certain, torch.tensor([-0.5])).item() == 1.0
    assert push(torch.tensor([-0.5]), certain).item() == 0.0  # the reference has no doubt: f = p
