from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.rollouts.requests import group_of, prompt_request
from rlstep.steps.adaptive import AdaptiveStepSplitter, pooled_threshold
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompts
from rlstep.types import Completion, Sampling
from tests.builders import make_completion
from tests.steps.test_splitters import bounds


def sampled(*probabilities: float) -> Completion:
    with np.errstate(divide="ignore"):
        logprobs = np.log(probabilities).astype(np.float32)
    return replace(make_completion([11] * len(probabilities)), logprobs=logprobs)


def fixed(threshold: float, **kwargs) -> AdaptiveStepSplitter:
    return AdaptiveStepSplitter(quantile=0.0, threshold=threshold, **kwargs)


def test_both_sides_of_the_cut_worked_by_hand():
    # Unsure under 0.5: tokens 1 and 3. They end their steps, or start them.
    made = sampled(0.9, 0.2, 0.8, 0.4, 0.9, 0.6)
    assert bounds(fixed(0.5), made) == [(0, 2), (2, 4), (4, 6)]
    assert bounds(fixed(0.5, side="start"), made) == [(0, 1), (1, 3), (3, 6)]


def test_the_first_and_the_last_token_leave_no_empty_step():
    made = sampled(0.1, 0.9, 0.1)
    assert bounds(fixed(0.5), made) == [(0, 1), (1, 3)]
    assert bounds(fixed(0.5, side="start"), made) == [(0, 2), (2, 3)]


def test_thresholds_at_the_ends():
    made = sampled(0.5, 0.0, 1.0)  # a logprob of -inf, and one of exactly 0
    assert bounds(fixed(0.0), made) == [(0, 3)]
    assert bounds(fixed(1.5), made) == [(0, 1), (1, 2), (2, 3)]
    assert bounds(fixed(1.0), made) == [(0, 1), (1, 2), (2, 3)]
    # Strictly under: exp of float32 log(0.5) is what it is, and that itself is not under it.
    exactly = float(np.exp(np.float64(np.log(np.float32(0.5)))))
    assert bounds(fixed(exactly), sampled(0.5, 0.9)) == [(0, 2)]


def test_the_pooled_threshold_worked_by_hand():
    # Ten probabilities 0.1 .. 1.0; strictly under 0.3 lie two of them, a fifth.
    pool = [sampled(0.6, 0.1, 0.9, 0.3), sampled(0.5), sampled(1.0, 0.2, 0.8, 0.4, 0.7)]
    assert pooled_threshold(pool, 0.2) == pytest.approx(0.3)
    assert pooled_threshold(pool, 0.29) == pytest.approx(0.3)  # no more than that share
    assert pooled_threshold(pool, 0.0) == pytest.approx(0.1)
    assert pooled_threshold(pool, 1.0) == pytest.approx(1.0)
    assert pooled_threshold([], 0.5) == pooled_threshold([sampled()], 0.5) == 0.0
    splits = AdaptiveStepSplitter(quantile=0.2).split_all(pool)
    # Cut after 0.1 in the first and after 0.2 in the third; the second has nothing unsure.
    ends = [[step.end for step in steps] for steps in splits]
    assert ends == [[2, 4], [1], [2, 5]]


PROBABILITIES = st.lists(st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9, 1.0]), max_size=12)


@given(pool=st.lists(PROBABILITIES, max_size=5), quantile=st.floats(0.0, 1.0))
def test_at_most_the_quantile_is_cut(pool: list[list[float]], quantile: float):
    completions = [sampled(*probabilities) for probabilities in pool]
    threshold = pooled_threshold(completions, quantile)
    flat = np.exp(np.concatenate([np.zeros(0), *(c.logprobs for c in completions)], dtype=float))
    assert (flat < threshold).sum() <= quantile * len(flat)


def ends(splits: Iterable) -> list[list[int]]:
    return [[step.end for step in steps] for steps in splits]


def test_a_split_depends_on_the_pool_not_on_its_order():
    pool = [sampled(0.1, 0.9, 0.2, 0.9), sampled(0.3, 0.9), sampled(0.8, 0.7)]
    splitter = AdaptiveStepSplitter(quantile=0.25)
    assert ends(splitter.split_all(pool))[::-1] == ends(splitter.split_all(pool[::-1]))
    # Alone, the last one has a decision of its own (0.7); in the pool others are less sure.
    assert ends([AdaptiveStepSplitter(quantile=0.5).split(pool[2])]) == [[2]]
    assert ends([replace(splitter, quantile=0.6, side="start").split(pool[2])]) == [[1, 2]]
    assert ends(splitter.split_all(pool))[2] == [2]


def test_a_group_of_rollouts_is_the_pool():
    # Over both, a quarter of 8 tokens is 2: both lie in the first completion.
    first, second = sampled(0.1, 0.9, 0.2, 0.9), sampled(0.8, 0.7, 0.6, 0.9)
    context = fake_context(FakeGenerator(lambda *_: ""), FakeScorer())
    context = replace(context, splitter=AdaptiveStepSplitter(quantile=0.25))
    (prompt,) = small_prompts(1)
    request = prompt_request(prompt, 2, Sampling(), context)
    group = group_of(prompt, request, (first, second), context)
    assert ends(r.steps for r in group.rollouts) == [[1, 3, 4], [4]]
    alone = group_of(prompt, request, (second,), context)
    assert ends(r.steps for r in alone.rollouts) == [[3, 4]]


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"splitter\.quantile is -0.1; the smallest valid value"):
        AdaptiveStepSplitter(quantile=-0.1)
    with pytest.raises(ValueError, match=r"splitter\.quantile is 2; the largest valid value is 1"):
        AdaptiveStepSplitter(quantile=2)
    with pytest.raises(ValueError, match=r"splitter\.threshold is -1; the smallest valid value"):
        AdaptiveStepSplitter(threshold=-1)
