from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import rlstep.tensors.logprobs as logprobs
from rlstep.tensors.logprobs import (
    masked,
    per_token,
    step_sums,
    token_logprobs,
    token_logprobs_and_entropies,
)


def test_token_logprobs_worked_by_hand():
    # V = 2. Logits at position 0 are (0, ln 3): probabilities 1/4, 3/4. Token 1 is 1: ln 3/4.
    # Logits at position 1 are (0, 0): token 2 is 0: ln 1/2. Position 2 predicts nothing we have.
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0], [5.0, 7.0]]])
    out = token_logprobs(logits, torch.tensor([[0, 1, 0]]))
    expected = torch.tensor([[0.0, math.log(0.75), math.log(0.5)]])
    torch.testing.assert_close(out, expected)


def test_temperature_divides_the_logits():
    # ln 9 / 2 = ln 3: the same 3/4 as above.
    logits = torch.tensor([[[0.0, math.log(9.0)], [0.0, 0.0]]])
    out = token_logprobs(logits, torch.tensor([[0, 1]]), temperature=2.0)
    torch.testing.assert_close(out, torch.tensor([[0.0, math.log(0.75)]]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float):
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long), temperature)


def test_entropies_worked_by_hand():
    # (1/4, 3/4): ln 4 / 4 + 3 ln (4/3) / 4 = 0.562335; then (1/2, 1/2): ln 2. Token 0 is given.
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0], [5.0, 7.0]]])
    tokens = torch.tensor([[0, 1, 0]])
    out, entropies = token_logprobs_and_entropies(logits, tokens)
    torch.testing.assert_close(out, token_logprobs(logits, tokens))
    torch.testing.assert_close(entropies, torch.tensor([[0.0, 0.562335, math.log(2.0)]]))
    # Logits twice as large at a temperature of 2 are the same distribution.
    again = token_logprobs_and_entropies(2.0 * logits, tokens, temperature=2.0)
    torch.testing.assert_close(again, (out, entropies))


def test_a_certain_token_has_no_entropy_and_a_finite_gradient():
    logits = torch.tensor([[[0.0, -math.inf, -math.inf], [0.0, 0.0, 0.0]]], requires_grad=True)
    out, entropies = token_logprobs_and_entropies(logits, torch.tensor([[1, 0]]))
    assert out.tolist() == entropies.tolist() == [[0.0, 0.0]]
    (gradient,) = torch.autograd.grad(entropies.sum() + out.sum(), logits)
    assert (gradient == 0.0).all()


@settings(max_examples=30)
@given(
    rows=st.integers(1, 3),
    length=st.integers(1, 7),
    vocabulary=st.integers(1, 6),
    chunk=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_equal_log_softmax(rows, length, vocabulary, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, vocabulary, dtype=torch.float64, generator=generator) * 5
    logits.requires_grad_()
    tokens = torch.randint(vocabulary, (rows, length), generator=generator)
    weights = torch.randn(rows, length, dtype=torch.float64, generator=generator)
    others = torch.randn(rows, length, dtype=torch.float64, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(logprobs.CHUNK_ELEMENTS, "cpu", chunk)
        out = token_logprobs(logits, tokens, temperature=0.7)
        (gradient,) = torch.autograd.grad((out * weights).sum(), logits)
        both, entropies = token_logprobs_and_entropies(logits, tokens, temperature=0.7)
        value = (both * weights + entropies * others).sum()
        (with_entropies,) = torch.autograd.grad(value, logits)
    every = (logits / 0.7).log_softmax(-1)[:, :-1]
    zeros = torch.zeros(rows, 1, dtype=torch.float64)
    plain = torch.cat([zeros, every.gather(-1, tokens[:, 1:, None])[..., 0]], 1)
    (expected,) = torch.autograd.grad((plain * weights).sum(), logits, retain_graph=True)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(gradient, expected)
    plain_entropies = torch.cat([zeros, -(every.exp() * every).sum(-1)], 1)
    (expected,) = torch.autograd.grad((plain * weights + plain_entropies * others).sum(), logits)
    torch.testing.assert_close((both, entropies), (plain, plain_entropies))
    torch.testing.assert_close(with_entropies, expected)


def memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Sizes(TorchDispatchMode):
    """Counts the operations that give a new tensor of at least so many elements."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.elements, self.large = elements, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs = {memory(a) for a in args if isinstance(a, torch.Tensor)}
        new = isinstance(out, torch.Tensor) and memory(out) not in inputs  # views are not new
        self.large += int(new and out.numel() >= self.elements)
        return out


def test_no_third_tensor_of_the_vocabularys_size(monkeypatch):
    logits = torch.randn(4, 50, 10, requires_grad=True)
    monkeypatch.setitem(logprobs.CHUNK_ELEMENTS, "cpu", 100)
    with Sizes(logits.numel() // 4) as sizes:
        out, entropies = token_logprobs_and_entropies(logits, torch.ones(4, 50, dtype=torch.long))
        assert sizes.large == 0
        (out + entropies).sum().backward()
    assert sizes.large == 1  # the gradient
    with Sizes(logits.numel() // 4) as sizes:
        logits.detach().log_softmax(-1)
    assert sizes.large == 1  # what it would have been


def test_bfloat16_logits_are_normalised_in_float32():
    # 1000 equal logits: ln(1/1000). A bfloat16 softmax would be off in the third digit.
    logits = torch.full((1, 2, 1000), 3.0, dtype=torch.bfloat16, requires_grad=True)
    out = token_logprobs(logits, torch.zeros(1, 2, dtype=torch.long))
    assert out.dtype == torch.float32
    assert out[0, 1].item() == pytest.approx(-math.log(1000.0), abs=1e-5)
    out.sum().backward()
    assert logits.grad is not None and logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_gradient_of_a_nearly_certain_token_is_no_wrong_zero(dtype: torch.dtype):
    # Logits (10, 0): 1 - p = 1 / (1 + e^10) = 4.539787e-5, where p in bfloat16 is 1. The other
    # token's softmax is the same, negated.
    logits = torch.tensor([[[10.0, 0.0], [0.0, 0.0]]], dtype=dtype, requires_grad=True)
    token_logprobs(logits, torch.tensor([[0, 0]])).sum().backward()
    assert logits.grad is not None
    expected = pytest.approx([4.539787e-5, -4.539787e-5], rel=0.01)
    assert logits.grad[0, 0].tolist() == expected
    assert logits.grad[0, 1].tolist() == [0.0, 0.0]


def test_the_bfloat16_gradient_is_the_float32_one_rounded():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 50, generator=generator).bfloat16()
    tokens = torch.randint(50, (2, 5), generator=generator)
    gradients = []
    for dtype in (torch.bfloat16, torch.float32):
        leaf = logits.detach().to(dtype).requires_grad_()
        token_logprobs(leaf, tokens).sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.float())
    torch.testing.assert_close(*gradients, rtol=2**-7, atol=0.0)


def test_step_sums_ragged_and_masked():
    # Row 0: steps of 2 and 1 tokens. Row 1: one step of 2 tokens, the second masked, then padding.
    values = torch.tensor([[9.0, 1.0, 2.0, 4.0], [9.0, 3.0, torch.nan, torch.nan]])
    index = torch.tensor([[-1, 0, 0, 1], [-1, 0, 0, -1]])
    mask = torch.tensor([[False, True, True, True], [False, True, False, False]])
    out = step_sums(values, index, mask, 2)
    assert out.tolist() == [[3.0, 4.0], [3.0, 0.0]]
    assert per_token(out, index, mask).tolist() == [[0.0, 3.0, 3.0, 4.0], [0.0, 3.0, 0.0, 0.0]]


def test_no_steps_at_all():
    index, mask = torch.full((2, 3), -1), torch.zeros(2, 3, dtype=torch.bool)
    assert step_sums(torch.ones(2, 3), index, mask, 0).shape == (2, 0)
    assert per_token(torch.ones(2, 0), index, mask).tolist() == [[0.0] * 3] * 2


def test_masked_stops_nan_in_value_and_gradient():
    values = torch.tensor([1.0, torch.nan, torch.inf], requires_grad=True)
    out = masked(values, torch.tensor([True, False, False]))
    out.sum().backward()
    assert out.tolist() == [1.0, 0.0, 0.0]
    assert values.grad is not None and values.grad.tolist() == [1.0, 0.0, 0.0]
