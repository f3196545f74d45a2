"""Token-level value-guided decoding: its laws, what it costs, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.rollouts.drafts import SPENT
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.value_guided import ValueGuided
from rlstep.steps.adaptive import AdaptiveStepSplitter
from rlstep.testing.small import small_prompt, small_prompts
from rlstep.types import Group, Rollout, Sampling
from tests.rollouts.decoding_kit import (
    END,
    TableGenerator,
    Valued,
    decode,
    random_table,
    texts,
)

GREEDY = Sampling(temperature=0.0, max_tokens=12)
PROMPT = small_prompt("p", text="?\n")


def guided(**fields: Any) -> ValueGuided:
    return ValueGuided(**{"sampling": GREEDY, "budget": 40, "candidates": 3, **fields})


def flat(valued: Valued) -> list[Rollout]:
    return [rollout for batch in valued.batches for rollout in batch]


def spent(group: Group) -> float | None:
    return group.rollouts[0].whole_score(SPENT)


def ab(text: str) -> Mapping[str, float]:
    """'aaaa' and the end; unsure (0.4) at the second and the fourth character alone. Another
    character is followed by the end."""
    if text in ("a", "aaa"):
        return {"a": 0.4, "b": 0.35, "c": 0.25}
    sure = "a" if text in ("", "aa") else END
    return {sure: 0.9, "x": 0.06, "y": 0.04}


async def test_the_token_that_the_prm_values_most_is_taken_where_the_policy_is_unsure():
    valued = Valued(lambda text: {"ac": 0.9, "ab": 0.8, "aa": 0.1}.get(text, 0.5))
    generator = TableGenerator(ab)
    [group] = await decode(guided(chunk=4), generator, valued, [PROMPT])
    assert texts(group) == ["ac" + END]
    # The candidates, the likeliest first, each with its context, once.
    assert [r.completion.text for r in flat(valued)] == ["aa", "ab", "ac"]
    # Sampled: the chunk 'aaaa', of which 'aaa' went, then the end: 4 + 1 tokens for 3.
    assert spent(group) == 5
    rollout = group.rollouts[0]
    # The policy's own logprobs, also of the token that it would not have written: 0.9, 0.25, 0.9.
    assert np.exp(rollout.completion.logprobs).tolist() == pytest.approx([0.9, 0.25, 0.9])
    assert [(v.version, v.start, v.end) for v in rollout.completion.versions] == [
        (3, 0, 1), (3, 1, 2), (3, 2, 3)
    ]  # fmt: skip
    assert rollout.completion.finish_reason == "stop" and rollout.outcome is not None


async def test_a_chunk_goes_on_where_the_prm_takes_what_was_sampled():
    valued = Valued(lambda text: 1.0 if text in ("aa", "aaab") else 0.0)
    generator = TableGenerator(ab)
    [group] = await decode(guided(chunk=4), generator, valued, [PROMPT])
    assert texts(group) == ["aaab" + END]
    assert [r.completion.text for r in flat(valued)] == ["aa", "ab", "ac", "aaaa", "aaab", "aaac"]
    # One chunk of 4 for both choices, of which the last token went, and the end.
    assert generator.answered == [4, 1] and spent(group) == 5


async def test_strictly_under_the_threshold():
    quarter = TableGenerator(lambda text: {"a": 0.5, "b": 0.25, END: 0.25})
    exactly = float(np.exp(np.float64(np.log(np.float32(0.5)))))  # as float32 logprobs have it
    for threshold, asked in ((exactly, 0), (0.0, 0), (0.51, 36)):
        valued = Valued(lambda text: 0.0)
        await decode(guided(threshold=threshold), quarter, valued, [PROMPT])
        assert len(flat(valued)) == asked  # 12 tokens x 3 candidates, or none


async def test_the_prm_reads_the_steps_that_the_run_cuts():
    """With cuts at the same unsure tokens each candidate ends a step, and so do earlier choices."""
    valued = Valued(lambda text: float(text.endswith("b")))
    splitter = AdaptiveStepSplitter(quantile=0.0, threshold=0.5)

    def table(text: str) -> Mapping[str, float]:
        return dict(
            zip("ab" + END, (0.4, 0.35, 0.25) if len(text) % 2 else (0.9, 0.06, 0.04), strict=True)
        )

    strategy = guided(threshold=0.5, sampling=replace(GREEDY, max_tokens=5))
    [group] = await decode(strategy, TableGenerator(table), valued, [PROMPT], splitter)
    assert texts(group) == ["ababa"]
    ends = [[step.end for step in rollout.steps] for rollout in flat(valued)]
    assert ends == [[2]] * 3 + [[2, 4]] * 3
    assert [step.end for step in group.rollouts[0].steps] == [2, 4, 5]


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    candidates=st.integers(2, 4),
    chunk=st.integers(1, 13),
    stop=st.sampled_from([(), ("ba",), ("a\nb", "bb")]),
    value=st.floats(0.0, 1.0),
)
def test_a_constant_prm_decodes_greedily(
    seed: int, threshold: float, candidates: int, chunk: int, stop: tuple[str, ...], value: float
):
    sampling = replace(GREEDY, stop=stop)
    table = random_table(seed)
    strategy = guided(
        sampling=sampling, threshold=threshold, candidates=candidates, chunk=chunk, budget=12
    )
    both = [
        asyncio.run(decode(each, TableGenerator(table), Valued(lambda text: value), [PROMPT]))
        for each in (strategy, Independent(samples_per_prompt=1, sampling=sampling))
    ]
    one, other = (groups[0].rollouts[0] for groups in both)
    assert one.completion.token_ids.tolist() == other.completion.token_ids.tolist()
    assert one.completion.logprobs.tolist() == other.completion.logprobs.tolist()
    assert one.completion.text == other.completion.text and one.steps == other.steps
    for name in ("finish_reason", "stop_reason"):
        assert getattr(one.completion, name) == getattr(other.completion, name)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    chunk=st.integers(1, 13),
    budget=st.integers(12, 60),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_never_more_than_the_budget_and_always_to_the_end(
    seed: int, chunk: int, budget: int, temperature: float
):
    """Against a PRM that prefers the unlikely, so that every choice throws something away."""
    generator = TableGenerator(random_table(seed))
    valued = Valued(lambda text: zero_to_one(seed, text))
    sampling = replace(GREEDY, temperature=temperature)
    strategy = guided(sampling=sampling, chunk=chunk, budget=budget, threshold=1.0)
    [group] = asyncio.run(decode(strategy, generator, valued, [PROMPT]))
    so_far = 0
    for request, tokens in zip(generator.asked, generator.answered, strict=True):
        assert so_far + request.sampling.max_tokens <= budget
        so_far += tokens
    assert so_far == spent(group)
    [rollout] = group.rollouts
    length = rollout.completion.length
    assert rollout.completion.finish_reason == "stop" or length == sampling.max_tokens


def zero_to_one(seed: int, text: str) -> float:
    return float(np.random.default_rng([seed, len(text), *text.encode()]).random())


async def test_no_request_a_token_and_no_batch_a_sequence():
    """As many calls for nine prompts as for one that takes as long."""
    calls = {}
    for number in (1, 9):
        generator, valued = TableGenerator(ab), Valued(lambda text: 1.0 if "c" in text else 0.0)
        groups = await decode(guided(chunk=4), generator, valued, small_prompts(number))
        assert [texts(group) for group in groups] == [["ac" + END]] * number
        calls[number] = generator.calls, len(valued.batches)
        assert [len(batch) for batch in valued.batches] == [3 * number]
    assert calls[1] == calls[9] == (2, 1)


async def test_what_fails_is_counted_and_holds_up_nobody():
    prompts = small_prompts(3)
    generator = TableGenerator(ab, failing=["0/a/0/at0"])
    valued = Valued(lambda text: 1.0, timeouts=["0/b/0/at1/2"])
    one, two, three = await decode(guided(chunk=4), generator, valued, prompts)
    assert (one.rollouts, [f.reason for f in one.failures]) == ((), ["generator_lost"])
    assert (two.rollouts, [f.reason for f in two.failures]) == ((), ["not_finite"])
    assert texts(three) == ["aaaa" + END] and not three.failures


async def test_a_prm_of_another_name_leaves_no_choice():
    """What the configuration refuses is no silent greedy decoding either."""
    [group] = await decode(
        guided(source="other"), TableGenerator(ab), Valued(lambda text: 1.0), [PROMPT]
    )
    assert [failure.reason for failure in group.failures] == ["not_scored"]


async def test_an_end_that_is_chosen_ends():
    def table(text: str) -> Mapping[str, float]:
        return {"a": 0.5, "b": 0.3, END: 0.2}

    for stop, best in (((), END), ((ord("b"),), "b")):
        valued = Valued(lambda text, best=best: float(text.rstrip(END) != text or best in text))
        sampling = replace(GREEDY, stop_token_ids=stop)
        [group] = await decode(guided(sampling=sampling), TableGenerator(table), valued, [PROMPT])
        completion = group.rollouts[0].completion
        assert (completion.finish_reason, len(completion.token_ids)) == ("stop", 1)
        assert completion.stop_reason == (stop[0] if stop else None)


async def test_several_samples_of_a_prompt_and_their_numbers():
    strategy = guided(sampling=replace(GREEDY, temperature=1.0), samples_per_prompt=3, chunk=4)
    generator = TableGenerator(ab, failing=["0/p/1/at0"])
    [group] = await decode(strategy, generator, Valued(lambda text: 0.0), [PROMPT])
    assert [r.sample_index for r in group.rollouts] == [0, 2] and len(group.failures) == 1
    assert len({request.seed for request in generator.asked}) == len(generator.asked)


def test_bad_values_are_refused():
    for fields, message in (
        ({"threshold": 1.5}, r"rollouts\.threshold is 1\.5; the largest valid value is 1\.0"),
        ({"candidates": 1}, r"rollouts\.candidates is 1; the smallest valid value is 2"),
        ({"candidates": 21}, r"rollouts\.candidates is 21; the largest valid value is 20"),
        ({"chunk": 0}, r"rollouts\.chunk is 0; the smallest valid value is 1"),
        ({"budget": 11}, r"rollouts\.budget is 11; the smallest valid value is 12"),
        ({"source": ""}, r"rollouts\.source is ''"),
        ({"samples_per_prompt": 2}, r"samples_per_prompt \(greedy\) is 2; the largest valid"),
        ({"sampling": Sampling(top_k=4)}, r"sampling\.top_k is 4.*nearest valid value is 0"),
        ({"sampling": Sampling(min_tokens=2)}, r"sampling\.min_tokens is 2"),
    ):
        with pytest.raises(ValueError, match=message):
            guided(**fields)
