"""Divergences of a token's distributions: by hand, against the dense formula, and their laws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rlstep.tensors.logprobs as logprobs
from rlstep.losses.divergence import Divergence, ForwardKl, JensenShannon, ReverseKl
from tests.tensors.test_logprobs import Sizes

KINDS: list[Divergence] = [ReverseKl(), ForwardKl(), JensenShannon(), JensenShannon(beta=0.2)]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=repr)


def logits_of(*probabilities: float) -> Tensor:
    """[1, 2, V] whose first position predicts token 1 with these probabilities."""
    row = torch.tensor(probabilities, dtype=torch.float64).log()
    return torch.stack([row, torch.zeros_like(row)])[None]


def of(kind: Divergence, p: tuple[float, ...], q: tuple[float, ...]) -> float:
    out = kind(logits_of(*p), logits_of(*q))
    assert out[0, 0] == 0.0  # nothing comes before the first token
    return out[0, 1].item()


P, Q = (0.5, 0.5), (0.25, 0.75)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # 1/2 ln 2 + 1/2 ln(2/3) = 1/2 ln(4/3)
        (ReverseKl(), 0.5 * math.log(4 / 3)),
        # 1/4 ln(1/2) + 3/4 ln(3/2)
        (ForwardKl(), 0.75 * math.log(1.5) - 0.25 * math.log(2.0)),
        # m = (3/8, 5/8). KL(q, m) = 1/4 ln(2/3) + 3/4 ln(6/5); KL(p, m) = 1/2 ln(4/3) + 1/2 ln(4/5)
        (
            JensenShannon(),
            0.5 * (0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5))
            + 0.25 * (math.log(4 / 3) + math.log(4 / 5)),
        ),
        # b = 1/5: m = (9/20, 11/20). KL(q, m) = 1/4 ln(5/9) + 3/4 ln(15/11);
        # KL(p, m) = 1/2 ln(10/9) + 1/2 ln(10/11)
        (
            JensenShannon(beta=0.2),
            0.2 * (0.25 * math.log(5 / 9) + 0.75 * math.log(15 / 11))
            + 0.4 * (math.log(10 / 9) + math.log(10 / 11)),
        ),
    ],
    ids=repr,
)
def test_two_tokens_by_hand(kind: Divergence, expected: float):
    assert of(kind, P, Q) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # The reference's likeliest is token 2 (5/8). Outcomes: p = (1/4, 3/4), q = (5/8, 3/8), so
        # 1/4 ln(2/5) + 3/4 ln 2.
        (ReverseKl(top_k=1), 0.25 * math.log(0.4) + 0.75 * math.log(2.0)),
        # 5/8 ln(5/2) + 3/8 ln(1/2)
        (ForwardKl(top_k=1), 0.625 * math.log(2.5) - 0.375 * math.log(2.0)),
        # All three: 1/2 ln 4 + 1/4 ln 1 + 1/4 ln(2/5)
        (ReverseKl(), 0.5 * math.log(4.0) + 0.25 * math.log(0.4)),
    ],
    ids=repr,
)
def test_the_likeliest_of_three_by_hand(kind: Divergence, expected: float):
    found = of(kind, (0.5, 0.25, 0.25), (0.125, 0.25, 0.625))
    assert found == pytest.approx(expected, rel=1e-12)


def test_temperature_divides_both():
    # Logits twice as large at a temperature of 2 are the same distributions.
    twice = ReverseKl()(2.0 * logits_of(*P), 2.0 * logits_of(*Q), 2.0)
    assert twice[0, 1].item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-12)
    # At 1/2 probabilities are squared: p stays (1/2, 1/2), q is (1/10, 9/10): 1/2 ln 5 + 1/2 ln 5/9
    sharp = ReverseKl()(logits_of(*P), logits_of(*Q), 0.5)
    assert sharp[0, 1].item() == pytest.approx(0.5 * math.log(25 / 9), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float):
    with pytest.raises(ValueError, match="temperature"):
        ReverseKl()(logits_of(*P), logits_of(*Q), temperature)


# --- against the dense formula -------------------------------------------------------------------


def dense(kind: Divergence, p: Tensor, q: Tensor) -> Tensor:
    """The definitions, over [N, L, B] probabilities that are all above 0."""

    def kl(one: Tensor, other: Tensor) -> Tensor:
        return (one * (one / other).log()).sum(-1)

    if isinstance(kind, JensenShannon):
        m = kind.beta * q + (1.0 - kind.beta) * p
        return kind.beta * kl(q, m) + (1.0 - kind.beta) * kl(p, m)
    return kl(p, q) if isinstance(kind, ReverseKl) else kl(q, p)


def bucketed(p: Tensor, q: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    if not top_k:
        return p, q
    ids = q.topk(top_k, -1).indices
    tops = [each.gather(-1, ids) for each in (p, q)]
    one, other = (torch.cat([top, 1.0 - top.sum(-1, keepdim=True)], -1) for top in tops)
    return one, other


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(3, 7)),
    kind=st.sampled_from([ReverseKl, ForwardKl, JensenShannon]),
    top_k=st.integers(0, 2),
    chunk=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_are_the_dense_formulas(
    shape: tuple[int, int, int], kind: Callable[..., Divergence], top_k: int, chunk: int, seed: int
):
    """In any chunks; the gradient is plain autograd's of the definition."""
    random = torch.Generator().manual_seed(seed)
    divergence, temperature = kind(top_k=top_k), 0.7
    ours, theirs, weights = (
        torch.randn(shape, dtype=torch.float64, generator=random) * 2 for _ in range(3)
    )
    ours.requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(logprobs.CHUNK_ELEMENTS, "cpu", chunk)
        out = divergence(ours, theirs, temperature)
        (gradient,) = torch.autograd.grad((out * weights[..., 0]).sum(), ours)
    p, q = ((each / temperature).softmax(-1)[:, :-1] for each in (ours, theirs))
    plain = dense(divergence, *bucketed(p, q, top_k))
    expected = torch.cat([torch.zeros(shape[0], 1, dtype=torch.float64), plain], 1)
    torch.testing.assert_close(out, expected)
    (wanted,) = torch.autograd.grad((expected * weights[..., 0]).sum(), ours)
    torch.testing.assert_close(gradient, wanted)


# --- laws ----------------------------------------------------------------------------------------


def pair(seed: int, vocabulary: int = 9) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    one, other = (
        3.0 * torch.randn(2, 5, vocabulary, dtype=torch.float64, generator=random) for _ in range(2)
    )
    return one, other


@every_kind
@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_it_is_above_0_and_0_for_equal_distributions_alone(kind: Divergence, seed: int):
    one, other = pair(seed)
    assert (kind(one, other)[:, 1:] > 1e-6).all()
    same = kind(one, one + 5.0)  # a shift of all logits is the same distribution
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-12, rtol=0)
    leaf = one.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kind(leaf, one).sum(), leaf)
    torch.testing.assert_close(gradient, torch.zeros_like(one), atol=1e-12, rtol=0)


@every_kind
@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_fewer_outcomes_say_less(kind: Divergence, seed: int):
    """Data processing: telling fewer tokens apart is never more, and with all of them the same."""
    one, other = pair(seed)
    found = [replace(kind, top_k=k)(one, other) for k in range(1, 11)]
    for fewer, more in itertools.pairwise(found):
        assert (fewer <= more + 1e-12).all()
    exact = kind(one, other)
    for k in (8, 9, 10):  # the rest is one token, or none
        torch.testing.assert_close(found[k - 1], exact)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), beta=st.floats(0.01, 0.99))
def test_jensen_shannon_is_bounded_and_mirrors_itself(seed: int, beta: float):
    one, other = pair(seed)
    one = 20.0 * one  # nearly certain: close to the bound
    out = JensenShannon(beta=beta)(one, other)
    entropy = -beta * math.log(beta) - (1.0 - beta) * math.log(1.0 - beta)
    assert (out <= entropy + 1e-12).all()
    torch.testing.assert_close(out, JensenShannon(beta=1.0 - beta)(other, one))


def test_jensen_shannon_has_the_two_kls_as_its_ends():
    """D / b -> KL(q, p) and D / (1 - b) -> KL(p, q), up to terms of the order of b."""
    one, other = (0.3 * each for each in pair(3))
    low, high = JensenShannon(beta=1e-3)(one, other), JensenShannon(beta=0.999)(one, other)
    torch.testing.assert_close(low / 1e-3, ForwardKl()(one, other), rtol=0.01, atol=0)
    torch.testing.assert_close(high / 1e-3, ReverseKl()(one, other), rtol=0.01, atol=0)


@every_kind
@pytest.mark.parametrize("top_k", [0, 2])
def test_padding_of_either_vocabulary_is_left_out(kind: Divergence, top_k: int):
    kind, (one, other) = replace(kind, top_k=top_k), pair(1, 5)
    longer = torch.cat([one, torch.full((2, 5, 3), 7.0, dtype=torch.float64)], -1)
    expected = kind(one, other)
    leaf = longer.clone().requires_grad_()
    torch.testing.assert_close(kind(leaf, other), expected)
    torch.testing.assert_close(kind(other, longer), kind(other, one))
    (gradient,) = torch.autograd.grad(kind(leaf, other).sum(), leaf)
    assert (gradient[..., 5:] == 0.0).all() and gradient[:, :-1, :5].any()


@every_kind
@pytest.mark.parametrize("top_k", [0, 1, 2])
def test_tokens_that_nobody_can_draw_add_nothing(kind: Divergence, top_k: int):
    kind, never = replace(kind, top_k=top_k), torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]).bool()
    one, other = (each.masked_fill(never, -torch.inf) for each in pair(2, 4))
    leaf = one.clone().requires_grad_()
    out = kind(leaf, other)
    torch.testing.assert_close(out, kind(one[..., :2], other[..., :2]))
    (gradient,) = torch.autograd.grad(out.sum(), leaf)
    assert gradient.isfinite().all() and (gradient[..., 2:] == 0.0).all()


def test_bfloat16_logits_are_normalised_in_float32():
    random = torch.Generator().manual_seed(0)
    one, other = (torch.randn(1, 4, 500, generator=random).bfloat16() for _ in range(2))
    leaf = one.requires_grad_()
    out = ReverseKl()(leaf, other)
    exact = ReverseKl()(one.detach().double(), other.double())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), exact, rtol=1e-4, atol=1e-5)
    out.sum().backward()
    assert leaf.grad is not None and leaf.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("top_k", [0, 2])
def test_no_further_tensor_of_the_vocabularys_size(monkeypatch: pytest.MonkeyPatch, top_k: int):
    logits, reference = torch.randn(4, 50, 10, requires_grad=True), torch.randn(4, 50, 10)
    monkeypatch.setitem(logprobs.CHUNK_ELEMENTS, "cpu", 100)
    with Sizes(logits.numel()) as sizes:
        out = ReverseKl(top_k=top_k)(logits, reference)
        assert sizes.large == 0
        out.sum().backward()
    assert sizes.large == 1  # the gradient


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReverseKl(top_k=-1), "loss.divergence.top_k is -1; the smallest valid value is 0"),
        (lambda: JensenShannon(beta=0.0), "loss.divergence.beta is 0.0; the smallest valid"),
        (lambda: JensenShannon(beta=1.0), "loss.divergence.beta is 1.0; the largest valid"),
        (lambda: JensenShannon(top_k=-2), "loss.divergence.top_k is -2"),
    ],
)
def test_bad_values_are_refused(make: Callable[[], Divergence], message: str):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)
