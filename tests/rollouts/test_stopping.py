"""Sequential stopping: the posterior by hand, and what it may never do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.rollouts.stopping import BetaStopping, beta_at_least


@st.composite
def rules(draw: st.DrawFn) -> BetaStopping:
    limit = draw(st.integers(1, 16))
    return BetaStopping(
        threshold=draw(st.sampled_from([0.05, 0.125, 0.25, 0.5, 0.7, 1.0])),
        confidence=draw(st.sampled_from([0.5, 0.8, 0.9, 0.99, 1.0])),
        batch=draw(st.integers(1, limit)),
        limit=limit,
    )


outcomes = st.lists(st.sampled_from([True, False]), min_size=16, max_size=16)


def run(rule: BetaStopping, draws: Sequence[bool]) -> tuple[int, bool]:
    """(number drawn, whether the prefix is low)."""
    asked = 0
    while more := rule.more(asked, sum(draws[:asked]), asked):
        asked += more
    return asked, rule.low(asked, sum(draws[:asked]))


@pytest.mark.parametrize(
    ("threshold", "n", "k", "probability"),
    [
        (0.3, 0, 0, 0.7),  # the uniform prior
        (0.5, 2, 0, 0.5**3),  # Beta(1, 3): (1 - t)^3
        (0.5, 2, 2, 1 - 0.5**3),  # Beta(3, 1): 1 - t^3
        (0.5, 3, 2, 11 / 16),  # at most 2 heads of 4 coins: (1 + 4 + 6) / 16
        (0.25, 1, 1, 15 / 16),  # Beta(2, 1): 1 - t^2
    ],
)
def test_posterior_by_hand(threshold: float, n: int, k: int, probability: float):
    assert beta_at_least(threshold, n, k) == pytest.approx(probability, abs=1e-12)


@given(st.integers(0, 30), st.data(), st.floats(0.01, 0.99))
def test_posterior_is_a_probability_that_grows_with_successes(
    n: int, data: st.DataObject, threshold: float
):
    k = data.draw(st.integers(0, n))
    above = beta_at_least(threshold, n, k)
    assert -1e-9 <= above <= 1 + 1e-9
    assert beta_at_least(threshold, n + 1, k + 1) >= above - 1e-9
    assert beta_at_least(threshold, n + 1, k) <= above + 1e-9
    # Success and failure change places with the sides of the threshold.
    assert above == pytest.approx(1 - beta_at_least(1 - threshold, n, n - k), abs=1e-9)


def test_a_clear_prefix_takes_three_draws_and_an_even_one_all():
    rule = BetaStopping(threshold=0.5, confidence=0.9, batch=1, limit=8)
    # After two alike the side has 1 - 0.5^3 = 0.875, after three 1 - 0.5^4 = 0.9375.
    assert run(rule, [False] * 8) == (3, True)
    assert run(rule, [True] * 8) == (3, False)
    # 1, 0, 1, 0, ...: never far from even; after the 7th draw 4 of 8 are reached whatever comes.
    assert run(rule, [True, False] * 4) == (7, False)


def test_batches_are_cut_at_the_limit():
    rule = BetaStopping(threshold=0.5, confidence=1.0, batch=3, limit=8)
    assert [rule.more(0, 0, 0), rule.more(6, 3, 6)] == [3, 2]


def test_draws_without_a_verdict_count_for_the_limit_and_decide_nothing():
    rule = BetaStopping(threshold=0.5, confidence=0.5, batch=4, limit=8)
    assert [rule.more(0, 0, asked) for asked in (0, 4, 8)] == [4, 4, 0]


@given(rules(), outcomes)
def test_never_more_than_the_limit_and_at_least_one(rule: BetaStopping, draws: list[bool]):
    asked, _ = run(rule, draws)
    assert 1 <= asked <= rule.limit


@given(rules(), outcomes)
def test_where_it_must_be_certain_it_decides_as_all_draws_do(rule: BetaStopping, draws: list[bool]):
    rule = replace(rule, confidence=1.0)
    assert run(rule, draws)[1] == rule.low(rule.limit, sum(draws[: rule.limit]))


@given(rules(), outcomes)
def test_a_smaller_confidence_never_draws_more(rule: BetaStopping, draws: list[bool]):
    assert run(rule, draws)[0] <= run(replace(rule, confidence=1.0), draws)[0]


@given(rules(), outcomes)
def test_one_batch_of_everything_is_a_fixed_number(rule: BetaStopping, draws: list[bool]):
    assert run(replace(rule, batch=rule.limit), draws)[0] == rule.limit


@given(rules(), outcomes)
def test_a_stop_before_the_limit_is_certain_or_cannot_change(rule: BetaStopping, draws: list[bool]):
    asked, low = run(rule, draws)
    k, left = sum(draws[:asked]), rule.limit - asked
    above = beta_at_least(rule.threshold, asked, k)
    certain = (1 - above if low else above) > rule.confidence
    fixed = rule.low(rule.limit, k) == rule.low(rule.limit, k + left)
    assert certain or fixed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": 0.0}, r"stopping.threshold is 0.0; it must be above 0"),
        ({"threshold": 1.5}, r"stopping.threshold is 1.5; the largest valid value is 1.0"),
        ({"confidence": 0.4}, r"stopping.confidence is 0.4; the smallest valid value is 0.5"),
        ({"limit": 0}, r"stopping.limit is 0; the smallest valid value is 1"),
        ({"batch": 9}, r"stopping.batch is 9; the largest valid value is 8"),
    ],
)
def test_refuses(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        BetaStopping(**fields)
