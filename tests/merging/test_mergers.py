"""Mergers by hand, and their laws, of inner products alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlstep.interfaces import Merger
from rlstep.merging.average import Average
from rlstep.merging.awd import Awd
from rlstep.merging.task_arithmetic import TaskArithmetic
from rlstep.merging.task_vectors import cosines

MERGERS = (Average(), TaskArithmetic(), Awd(steps=5))


def products(vectors: np.ndarray) -> np.ndarray:
    return vectors @ vectors.T


def merged(merger: Merger, vectors: np.ndarray) -> np.ndarray:
    """What is added to the base."""
    return merger.mix(products(vectors)).sum(0) @ vectors


def drawn(seed: int, models: int = 3, size: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(models, size))


def test_by_hand() -> None:
    vectors = np.array([[1.0, 2.0], [3.0, -2.0]])
    # (1 + 3) / 2 = 2, (2 - 2) / 2 = 0
    assert merged(Average(), vectors) == pytest.approx([2.0, 0.0])
    # 0.3 (1 + 3) = 1.2
    assert merged(TaskArithmetic(), vectors) == pytest.approx([1.2, 0.0])
    # 0.5 * 1 - 1 * 3 = -2.5, 0.5 * 2 + 1 * 2 = 3
    assert merged(TaskArithmetic(scale=(0.5, -1.0)), vectors) == pytest.approx([-2.5, 3.0])


def test_one_step_of_awd_by_hand() -> None:
    """tau_1 = (1, 0), tau_2 = (1, 1): products 1, 1, 2; cosine c = 1 / sqrt 2.

    The gradient of cos by delta at 0 is -(t1 + t2) / (n1 n2) + c (t1 / n1^2 + t2 / n2^2): along t1
    -c + c = 0, along t2 -c + c / 2 = -c / 2 = -0.353553. Delta has no length yet. A step of 0.1 is
    delta = 0.0353553 t2, of length 0.05: what is left is t1 - delta = (0.964645, -0.0353553) and
    0.964645 t2, whose cosine is (0.964645 - 0.0353553) / (0.965293 sqrt 2) = 0.680733. With alpha
    0.1 that is 0.685733, less than 0.707107 before, and the step is taken.
    """
    awd = Awd(alpha=0.1, learning_rate=0.1, steps=1, scale=(1.0,))
    given = np.array([[1.0, 1.0], [1.0, 2.0]])
    assert awd.redundant(given) == pytest.approx([0.0, 0.0353553], abs=1e-7)
    assert awd.mix(given) == pytest.approx(np.array([[1, -0.0353553], [0, 0.9646447]]), abs=1e-7)
    cosine, _ = cosines(awd.mix(given) @ given @ awd.mix(given).T)
    assert cosine[0, 1] == pytest.approx(0.680733, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_awds_gradient_is_that_of_its_objective_over_all_weights(seed: int, alpha: float) -> None:
    vectors = drawn(seed)
    shares = np.random.default_rng(seed + 10).normal(size=3) * 0.2
    taus = torch.from_numpy(vectors)
    delta = torch.from_numpy(shares @ vectors).requires_grad_()
    left = taus - delta
    cosine = torch.nn.functional.cosine_similarity(left[:, None], left[None], dim=-1)
    value = (cosine.abs().sum() - 3) / 6 + alpha * delta.norm()
    (gradient,) = torch.autograd.grad(value, delta)
    own, slope = Awd(alpha=alpha)._objective(shares, products(vectors))
    assert own == pytest.approx(value.item())
    assert slope @ vectors == pytest.approx(gradient.numpy(), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_awd_never_ends_above_what_it_began_with(seed: int, models: int) -> None:
    for length in (1.0, 0.01):  # of steps that fit, and that are much too long
        own = products(drawn(seed, models) * length)
        awd = Awd(steps=5)
        delta = awd.redundant(own)
        assert awd._objective(delta, own)[0] <= awd._objective(np.zeros(models), own)[0]


def test_awd_lowers_the_cosine_of_what_interferes() -> None:
    vectors = drawn(0, models=2, size=1000) * 0.01 + drawn(1, models=1, size=1000) * 0.02
    own = products(vectors)
    before, after = cosines(own)[0], cosines(Awd().mix(own) @ own @ Awd().mix(own).T)[0]
    assert before[0, 1] > 0.7 and abs(after[0, 1]) < 0.05


@pytest.mark.parametrize("noise", [0.0, 1e-9, -1e-9])
def test_of_orthogonal_task_vectors_nothing_is_redundant(noise: float) -> None:
    own = np.diag([4.0, 1.0, 9.0])
    own[0, 1] = own[1, 0] = noise
    assert Awd().redundant(own) == pytest.approx(np.zeros(3), abs=1e-9)
    assert Awd().mix(own) == pytest.approx(TaskArithmetic().mix(own), abs=1e-9)


@pytest.mark.parametrize("merger", [Average(), TaskArithmetic(scale=(1.0,)), Awd(scale=(1.0,))])
def test_a_merge_of_one_is_that_one(merger: Merger) -> None:
    assert merger.mix(np.array([[0.25]])).tolist() == [[1.0]]


@pytest.mark.parametrize("merger", MERGERS, ids=lambda merger: type(merger).__name__)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_the_order_of_the_models_changes_nothing(
    merger: Merger, seed: int, order: list[int]
) -> None:
    vectors = drawn(seed, models=4)
    assert merged(merger, vectors[order]) == pytest.approx(merged(merger, vectors), abs=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskArithmetic(scale=()), r"merger.scale is \(\); it must be one finite number"),
        (lambda: Awd(scale=(float("nan"),)), "merger.scale is"),
        (lambda: Awd(alpha=-1.0), "merger.alpha is -1.0; the smallest valid value is 0"),
        (lambda: Awd(learning_rate=0.0), "merger.learning_rate is 0"),
        (lambda: Awd(steps=-1), "merger.steps is -1"),
        (
            lambda: TaskArithmetic(scale=(1.0, 2.0)).mix(np.eye(3)),
            "merger.scale has 2 numbers for 3 models; give one for all, or 3",
        ),
    ],
)
def test_what_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
