from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlstep.tensors import head_logprobs as module
from rlstep.tensors.head_logprobs import head_logprobs
from rlstep.tensors.logprobs import token_logprobs, token_logprobs_and_entropies
from tests.tensors.test_logprobs import Sizes


def test_worked_by_hand():
    # The head is the identity with bias (0, ln 3): logits (0, ln 3), then (ln 3, ln 3).
    # Token 1 is 1: ln 3/4; token 2 is 0: ln 1/2. Entropies: ln 4 / 4 + 3 ln (4/3) / 4, ln 2.
    hidden = torch.tensor([[[0.0, 0.0], [math.log(3.0), 0.0], [5.0, 7.0]]])
    bias = torch.tensor([0.0, math.log(3.0)])
    tokens = torch.tensor([[0, 1, 0]])
    out = head_logprobs(hidden, torch.eye(2), bias, tokens, (1.0, True))
    expected = [[0.0, 0.0], [math.log(0.75), 0.562335], [math.log(0.5), math.log(2.0)]]
    torch.testing.assert_close(out, torch.tensor([expected]))
    # A head twice as large at a temperature of 2 is the same.
    again = head_logprobs(hidden, 2.0 * torch.eye(2), 2.0 * bias, tokens, (2.0, False))
    torch.testing.assert_close(again, out[..., :1])


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        head_logprobs(
            torch.zeros(1, 2, 3), torch.zeros(4, 3), None, torch.ones(1, 2).long(), (0.0, False)
        )


@contextmanager
def chunks_of(multiplied: int, inner: int, summed: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MULTIPLIED_ELEMENTS", multiplied)
        patch.setattr(module, "SUMMED_ELEMENTS", summed)
        patch.setitem(module.CHUNK_ELEMENTS, "cpu", inner)
        yield


def draw(
    rows: int, length: int, vocabulary: int, dtype: torch.dtype, seed: int
) -> tuple[Any, Tensor, Tensor]:
    """Hidden states, head, tokens, and weights of logprobs and entropies, of which a third is 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    leaves = [normal(rows, length, 5), normal(vocabulary, 5), normal(vocabulary)]
    tokens = torch.randint(vocabulary, (rows, length), generator=generator)
    weights = normal(rows, length, 2) * (torch.rand(rows, length, 1, generator=generator) > 0.33)
    return [leaf.requires_grad_() for leaf in leaves], tokens, weights


def ours(leaves: list[Tensor], tokens: Tensor, asked: tuple[float, bool] = (1.0, False)) -> Tensor:
    bias = leaves[2] if len(leaves) == 3 else None
    return head_logprobs(leaves[0], leaves[1], bias, tokens, asked)


def plain(leaves: list[Tensor], tokens: Tensor, temperature: float, entropies: bool) -> Tensor:
    logits = F.linear(*leaves)
    if entropies:
        return torch.stack(token_logprobs_and_entropies(logits, tokens, temperature), -1)
    return token_logprobs(logits, tokens, temperature)[..., None]


@settings(max_examples=40)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 6)),
    chunk=st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 30)),
    biased=st.booleans(),
    entropies=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_equal_those_of_logits(
    sizes: tuple[int, int, int],
    chunk: tuple[int, int, int],
    biased: bool,
    entropies: bool,
    seed: int,
):
    leaves, tokens, weights = draw(*sizes, torch.float64, seed)
    leaves = leaves if biased else leaves[:2]
    weights = weights if entropies else weights[..., :1]
    expected = plain(leaves, tokens, 0.7, entropies)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    with chunks_of(*chunk):
        out = ours(leaves, tokens, (0.7, entropies))
        found = torch.autograd.grad((out * weights).sum(), leaves)
    torch.testing.assert_close(out, expected, rtol=0.0, atol=1e-9)
    for each, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(each, other, rtol=0.0, atol=1e-9)


def test_in_float32_within_1e_5_of_the_gradients_norm():
    leaves, tokens, weights = draw(4, 100, 1000, torch.float32, 0)
    wanted = torch.autograd.grad((plain(leaves, tokens, 1.0, True) * weights).sum(), leaves)
    with chunks_of(30_000, 5_000, 1_000):
        out = ours(leaves, tokens, (1.0, True))
        found = torch.autograd.grad((out * weights).sum(), leaves)
    for each, other in zip(found, wanted, strict=True):
        assert (each - other).norm() < 1e-5 * other.norm()


def test_in_bfloat16_the_values_are_those_of_logits():
    """Up to the last bit of a logit, which hangs on the order of its sum."""
    leaves, tokens, _ = draw(2, 20, 30, torch.bfloat16, 0)
    out = ours(leaves, tokens, (1.0, True))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, plain(leaves, tokens, 1.0, True), rtol=2**-7, atol=2**-6)


def test_the_heads_gradient_is_summed_in_float32():
    # Two logits of 0: softmax 1/2. Of row 0 of the weight, h = 1, token 0: the first position gives
    # 2 * 1/2 = 1, each of 300 more 1/256 * 1/2 = 1/512, in all 1 + 300 / 512 = 1.5859375. Added to
    # 1 in bfloat16, whose next number is 1 + 1/128, 1/512 would be lost every time.
    hidden = torch.ones(1, 302, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    scales = torch.full((302,), 1 / 256)
    scales[1] = 2.0
    with chunks_of(2, 2, 2):
        out = head_logprobs(hidden, weight, None, torch.zeros(1, 302).long())
        (out[0, :, 0] * scales).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [[1.5859375], [-1.5859375]]


def test_the_logits_of_a_chunk_are_all_that_there_are():
    leaves, tokens, _ = draw(4, 50, 40, torch.float32, 0)
    with chunks_of(400, 80, 1000), Sizes(4 * 50 * 40 // 4) as sizes:
        ours(leaves, tokens, (1.0, True)).sum().backward()
    assert sizes.large == 0
    with Sizes(4 * 50 * 40 // 4) as sizes:
        plain(leaves, tokens, 1.0, True).sum().backward()
    assert sizes.large == 2  # logits and their gradient


def test_what_has_no_gradient_costs_no_logits_in_the_backward(monkeypatch):
    leaves, tokens, weights = draw(3, 30, 7, torch.float32, 0)
    monkeypatch.setattr(module, "MULTIPLIED_ELEMENTS", 100)
    out = ours(leaves, tokens, (1.0, True))
    computed: list[int] = []
    plain_product = module._multiplied

    def counted(hidden: Tensor, *rest: Any) -> Tensor:
        computed.append(len(hidden))
        return plain_product(hidden, *rest)

    monkeypatch.setattr(module, "_multiplied", counted)
    (out * weights).sum().backward()
    assert sum(computed) == int((weights[:, 1:] != 0.0).any(-1).sum()) < 3 * 29


def test_logits_that_fit_into_one_chunk_are_computed_once(monkeypatch):
    leaves, tokens, weights = draw(3, 30, 7, torch.float32, 0)
    out = ours(leaves, tokens, (1.0, True))
    wanted = torch.autograd.grad((plain(leaves, tokens, 1.0, True) * weights).sum(), leaves)
    monkeypatch.delattr(module, "_multiplied")
    value = (out * weights).sum()
    for _ in range(2):  # what is kept is not written to
        found = torch.autograd.grad(value, leaves, retain_graph=True)
        torch.testing.assert_close(found, wanted)


def test_a_gradient_that_is_not_finite_shows():
    leaves, tokens, _ = draw(1, 5, 7, torch.float32, 0)
    out = ours(leaves, tokens)
    (out * torch.tensor([0.0, 0.0, math.nan, 0.0, 0.0])[:, None]).sum().backward()
    assert leaves[1].grad.isnan().all() and leaves[0].grad[0, 1].isnan().all()


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient(trained: int):
    leaves, tokens, weights = draw(2, 9, 7, torch.float64, 3)
    (wanted,) = torch.autograd.grad(
        (plain(leaves, tokens, 1.0, True) * weights).sum(), leaves[trained]
    )
    for position, leaf in enumerate(leaves):
        leaf.requires_grad_(position == trained)
    (ours(leaves, tokens, (1.0, True)) * weights).sum().backward()
    torch.testing.assert_close(leaves[trained].grad, wanted)
    assert [leaf.grad is not None for leaf in leaves] == [i == trained for i in range(3)]


def test_without_trained_tokens_all_gradients_are_zero():
    # As on a rank whose last micro-batch is empty, where collective operations must match.
    leaves, _, _ = draw(1, 1, 7, torch.float32, 0)
    (ours(leaves, torch.zeros(1, 1).long()).sum() * 0.0).backward()
    assert all((leaf.grad == 0.0).all() for leaf in leaves)
