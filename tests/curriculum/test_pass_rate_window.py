"""Prompts by their pass rates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.curriculum.pass_rate_window import PassRateWindow, pass_rates
from rlstep.testing.small import small_prompts
from tests.curriculum.kit import draw, ids, measured

PROMPTS = small_prompts(6)
WINDOW = PassRateWindow(lowest=0.25, highest=0.75, remembered=3)


def test_rates_are_over_all_that_is_remembered() -> None:
    # 2 of 8 and 8 of 8: 10 of 16.
    assert pass_rates(measured(0, a=2) + measured(1, a=8, b=0)) == {"a": 0.625, "b": 0.0}


def test_what_is_outside_is_left_out_until_it_is_forgotten() -> None:
    seen = measured(0, a=8, b=0) + measured(1, c=2, d=6)  # c and d are on the edges, inside
    for iteration, inside in ((2, "cdef"), (3, "cdef"), (4, "abcdef")):
        choice = WINDOW.choose(PROMPTS, draw(iteration, size=4, measured=seen))
        assert choice.metrics == {"inside": pytest.approx(len(inside) / 6)}
        assert set(ids(choice)) <= set(inside) and len(set(ids(choice))) == 4


def test_too_few_are_filled_up_with_the_nearest() -> None:
    # Distances: a 0.25, b 0.25, c 0.125, d 0.125, e 0, f 0.
    seen = measured(0, a=8, b=0, c=7, d=1, e=4, f=4)
    chosen = [ids(WINDOW.choose(PROMPTS, draw(1, size=5, seed=s, measured=seen))) for s in range(9)]
    for batch in chosen:
        assert set(batch[:2]) == {"e", "f"} and set(batch[2:4]) == {"c", "d"}
    assert {batch[4] for batch in chosen} == {"a", "b"}  # the seed decides among equals
    further = WINDOW.choose(PROMPTS, draw(1, size=2, further=3, measured=seen))
    assert set(ids(further)[:2]) == {"e", "f"} and len(further.prompts) == 5


@settings(max_examples=30)
@given(st.lists(st.integers(0, 8), min_size=6, max_size=6), st.integers(1, 6))
def test_a_batch_is_whole_and_distinct(right: list[int], size: int) -> None:
    seen = measured(4, **dict(zip("abcdef", right, strict=True)))
    chosen = ids(WINDOW.choose(PROMPTS, draw(5, size=size, measured=seen)))
    assert len(set(chosen)) == len(chosen) == size


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"lowest": 0.6, "highest": 0.5}, r"highest is 0\.5; the smallest valid value is 0\.6"),
        ({"lowest": -0.1}, r"lowest is -0\.1; the smallest valid value is 0"),
        ({"highest": 1.1}, r"highest is 1\.1; the largest valid value is 1"),
        ({"remembered": 0}, r"remembered is 0; the smallest valid value is 1"),
    ],
)
def test_bad_windows(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PassRateWindow(**fields)
