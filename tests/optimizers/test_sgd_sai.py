"""SGD-SaI: numbers by hand, laws, and each trap of a plain reading. No DeepSpeed here."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rlstep.optimizers.sgd_sai import ScaledSgd, SgdSai, Span, signal_to_noise

values = st.lists(st.floats(-4.0, 4.0, width=32), min_size=2, max_size=12)


def made(*tensors: Any, **fields: Any) -> tuple[ScaledSgd, list[nn.Parameter]]:
    """An optimizer over parameters of these values; without decay, if nothing is said of it."""
    parameters = [nn.Parameter(torch.tensor(t, dtype=torch.float32)) for t in tensors]
    plugin = replace(SgdSai(learning_rate=0.1, weight_decay=0.0), **fields)
    kind, options = cast(Any, plugin.torch_class())
    decay = plugin.weight_decay
    optimizer = kind([{"params": parameters, "weight_decay": decay}], lr=0.1, **options)
    assert isinstance(optimizer, ScaledSgd)
    return optimizer, parameters


def step(optimizer: ScaledSgd, parameters: list[nn.Parameter], *gradients: Any) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient, dtype=torch.float32)
    optimizer.step()


def ratios(optimizer: ScaledSgd, parameter: nn.Parameter) -> list[float]:
    return optimizer.state[parameter]["ratios"]


# --- by hand --------------------------------------------------------------------------------------


def test_two_steps_by_hand():
    # g = [1, 3]: ||g|| = sqrt(10), mean 2, variance ((1-2)^2 + (3-2)^2) / 1 = 2, so
    # r = sqrt(10 / 2) = 2.236068; m = g; p = 1 (1 - 0.1 * 0.5) - 0.1 r g = 0.95 - 0.2236068 g
    # = [0.7263932, 0.2791796].
    optimizer, (p,) = made([1.0, 1.0], weight_decay=0.5)
    step(optimizer, [p], [1.0, 3.0])
    assert ratios(optimizer, p) == pytest.approx([math.sqrt(5.0)], rel=1e-12)
    assert p.tolist() == pytest.approx([0.7263932, 0.2791796], abs=1e-6)
    # g = [2, -1]: m = 0.9 [1, 3] + 0.1 [2, -1] = [1.1, 2.6]; r stays (its own: sqrt(5 / 4.5));
    # p = 0.95 [0.7263932, 0.2791796] - 0.2236068 [1.1, 2.6] = [0.4441061, -0.3161571].
    step(optimizer, [p], [2.0, -1.0])
    assert ratios(optimizer, p) == pytest.approx([math.sqrt(5.0)], rel=1e-12)
    assert p.tolist() == pytest.approx([0.4441061, -0.3161571], abs=1e-6)


def test_a_gradient_of_mean_zero_has_the_root_of_n_minus_1():
    # [1, -1]: sqrt(2) / sqrt(2 / 1) = 1. [1, -1, 1, -1]: 2 / sqrt(4 / 3) = sqrt(3).
    assert signal_to_noise(2, 0.0, 2.0) == 1.0
    assert signal_to_noise(4, 0.0, 4.0) == pytest.approx(math.sqrt(3.0))


@given(values, st.integers(-12, 12))
def test_a_ratio_is_numpys_and_has_no_scale(numbers: list[float], power: int):
    g = np.array(numbers, np.float64) * 10.0**power
    ratio = signal_to_noise(len(g), g.sum(), (g * g).sum())
    if not g.any():
        assert ratio == 0.0
    elif g.std(ddof=1) > 1e-3 * np.abs(g).max():
        assert ratio == pytest.approx(np.linalg.norm(g) / g.std(ddof=1), rel=1e-6)


@given(values)
def test_the_order_of_a_tensors_numbers_changes_nothing(numbers: list[float]):
    one, (p,) = made([0.0] * len(numbers))
    two, (q,) = made([0.0] * len(numbers))
    step(one, [p], numbers)
    step(two, [q], numbers[::-1])
    assert ratios(one, p) == pytest.approx(ratios(two, q))
    assert p.tolist() == pytest.approx(q.tolist()[::-1], rel=1e-5, abs=1e-6)


# --- traps ----------------------------------------------------------------------------------------


def test_no_momentum_keeps_nothing_of_a_weight():
    optimizer, (p,) = made([0.0, 0.0], momentum=0.0)
    step(optimizer, [p], [1.0, -1.0])  # r = 1
    step(optimizer, [p], [2.0, 0.0])
    assert p.tolist() == pytest.approx([-0.3, 0.1])  # -0.1 (1 + 2), -0.1 (-1 + 0)
    assert optimizer.state[p] == {"ratios": [1.0]}


def test_a_tensor_without_a_gradient_at_first_is_measured_at_its_own_first():
    optimizer, (p, q) = made([0.0, 0.0], [0.0, 0.0])
    step(optimizer, [p, q], [1.0, -1.0], None)
    assert q not in optimizer.state
    step(optimizer, [p, q], [1.0, -1.0], [1.0, 3.0])
    assert ratios(optimizer, q) == pytest.approx([math.sqrt(5.0)])
    # The first m is g itself: -0.1 sqrt(5) [1, 3].
    assert q.tolist() == pytest.approx([-0.2236068, -0.6708204])


def test_a_zero_gradient_is_no_measurement():
    # As of an adapter's A, whose B is 0 at the start.
    optimizer, (p,) = made([1.0, 1.0], weight_decay=0.5)
    step(optimizer, [p], [0.0, 0.0])
    assert ratios(optimizer, p) == [0.0] and p.tolist() == [1.0, 1.0]  # it does not decay either
    step(optimizer, [p], [1e-9, 3e-9])  # as small as it is when B has hardly moved
    assert ratios(optimizer, p) == pytest.approx([math.sqrt(5.0)])
    assert optimizer.state[p]["momentum"].tolist() == pytest.approx([1e-9, 3e-9])
    step(optimizer, [p], [0.0, 0.0])
    assert ratios(optimizer, p) == pytest.approx([math.sqrt(5.0)])


@pytest.mark.parametrize("gradient", [[3.0], [2.0, 2.0], [0.1, 0.1, 0.1], [1.0, 1.0 + 1e-7]])
def test_a_single_number_and_numbers_all_alike_have_ratio_1(gradient: list[float]):
    optimizer, (p,) = made([0.0] * len(gradient), momentum=0.0)
    step(optimizer, [p], gradient)
    assert ratios(optimizer, p) == [1.0]
    assert p.tolist() == pytest.approx([-0.1 * g for g in gradient])


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_is_no_measurement(number: float):
    optimizer, (p,) = made([0.0, 0.0])
    step(optimizer, [p], [1.0, number])
    assert ratios(optimizer, p) == [0.0] and p.tolist() == [0.0, 0.0]


def test_a_state_that_is_loaded_goes_on_and_measures_nothing_twice():
    optimizer, parameters = made([1.0, 2.0], [1.0, 2.0])
    step(optimizer, parameters, [1.0, 3.0], [0.0, 0.0])  # the second is not measured yet
    again, others = made([1.0, 2.0], [1.0, 2.0])
    for q, p in zip(others, parameters, strict=True):
        q.data.copy_(p.data)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [ratios(again, q) for q in others] == [[pytest.approx(math.sqrt(5.0))], [0.0]]
    for one, of in ((optimizer, parameters), (again, others)):
        step(one, of, [5.0, -2.0], [1.0, -1.0])
    assert [q.tolist() for q in others] == [p.tolist() for p in parameters]
    assert ratios(again, others[0]) == pytest.approx([math.sqrt(5.0)])
    assert ratios(again, others[1]) == [1.0]


def test_a_ratio_survives_a_bfloat16_weight():
    # torch casts a state's tensors to the weight's type when it loads them, a list it leaves alone.
    p = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    optimizer = ScaledSgd([p], lr=0.1)
    p.grad = torch.tensor([1.0, 3.0], dtype=torch.bfloat16)
    optimizer.step()
    q = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    again = ScaledSgd([q], lr=0.1)
    again.load_state_dict(optimizer.state_dict())
    assert ratios(again, q) == [pytest.approx(math.sqrt(5.0), rel=1e-12)]


def test_momentum_may_begin_and_end_on_resume():
    optimizer, (p,) = made([0.0, 0.0], momentum=0.0)
    step(optimizer, [p], [1.0, -1.0])
    optimizer.param_groups[0]["momentum"] = 0.5
    step(optimizer, [p], [2.0, -2.0])  # the first m is g
    assert optimizer.state[p]["momentum"].tolist() == [2.0, -2.0]
    optimizer.param_groups[0]["momentum"] = 0.0
    step(optimizer, [p], [2.0, -2.0])
    assert "momentum" not in optimizer.state[p]


# --- flat pieces, as ZeRO makes them --------------------------------------------------------------


def cut(tensors: list[list[float]], at: int) -> list[tuple[list[float], list[Span]]]:
    """The row of all tensors cut in two, and where the tensors lie in either piece."""
    row = [number for tensor in tensors for number in tensor]
    pieces = []
    for begin, end in ((0, at), (at, len(row))):
        spans, start = [], 0
        for tensor in tensors:
            first, last = max(begin, start), min(end, start + len(tensor))
            length = max(last - first, 0)
            spans.append(Span(first - begin if length else 0, length, len(tensor)))
            start += len(tensor)
        pieces.append((row[begin:end], spans))
    return pieces


@given(st.lists(values, min_size=1, max_size=4), st.data())
def test_two_ranks_measure_what_one_does(gradients: list[list[float]], data: st.DataObject):
    whole, parameters = made(*[[1.0] * len(g) for g in gradients])
    step(whole, parameters, *gradients)
    expected = [number for p in parameters for number in p.tolist()]

    at = data.draw(st.integers(1, sum(map(len, gradients)) - 1))
    pieces = cut(gradients, at)
    sums: list[Tensor] = []
    got: list[float] = []
    for heard in (False, True):  # each rank says its sums first, then is told all of them
        for piece, spans in pieces:
            optimizer, (flat,) = made([1.0] * len(piece))
            over_ranks = (lambda _: sums[0] + sums[1]) if heard else _saying(sums)
            optimizer.lay_out({flat: spans}, over_ranks)
            step(optimizer, [flat], piece)
            got += flat.tolist() if heard else []
    assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)


def _saying(sums: list[Tensor]) -> Any:
    return lambda mine: sums.append(mine.clone()) or mine


def test_ranks_are_asked_only_until_every_tensor_is_measured():
    asked = []
    optimizer, (flat,) = made([0.0] * 4)
    spans = [Span(0, 2, 2), Span(2, 2, 2)]
    optimizer.lay_out({flat: spans}, lambda sums: asked.append(1) or sums)
    for gradient in ([1.0, -1.0, 0.0, 0.0], [11.0, -1.0, 1.0, 3.0]):
        step(optimizer, [flat], gradient)
    # The first tensor has a momentum by then: 0.9 [1, -1] + 0.1 [11, -1].
    assert optimizer.state[flat]["momentum"].tolist() == pytest.approx([2.0, -1.0, 1.0, 3.0])
    for _ in range(2):
        step(optimizer, [flat], [1.0] * 4)
    assert len(asked) == 2
    assert ratios(optimizer, flat) == pytest.approx([1.0, math.sqrt(5.0)])


# --- the configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"momentum": 1.0}, "optimizer.momentum is 1.0; the largest valid value is 0.999999"),
        ({"momentum": -0.1}, "optimizer.momentum is -0.1; the smallest valid value is 0.0"),
        ({"learning_rate": -1.0}, "optimizer.learning_rate is -1.0; the smallest valid value is 0"),
        ({"schedule": "linear"}, "optimizer.total_updates is 0; the smallest valid value is 1"),
    ],
)
def test_wrong_numbers_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        SgdSai(**fields)
    assert message in str(caught.value)


def test_what_it_keeps():
    assert (SgdSai().moments, SgdSai(momentum=0.0).moments) == (1, 0)
