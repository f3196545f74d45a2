"""Independent completions."""

from __future__ import annotations

import asyncio

import pytest

from rlstep.rollouts.independent import Independent
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompts
from rlstep.types import Failure, Sampling, Verdict

STRATEGY = Independent(samples_per_prompt=3, sampling=Sampling(max_tokens=64))


def write(prefix: str, child: int, seed: int) -> str:
    return "2+3=5\n#5" if child == 1 else "2+3=9\n#9"


async def test_one_verified_group_a_prompt_from_one_call():
    generator = FakeGenerator(write)
    context = fake_context(generator, FakeScorer())
    groups = [g async for g in STRATEGY.collect(small_prompts(4), context)]
    assert [g.prompt.prompt_id for g in groups] == list("abcd")
    assert len(generator.asked) == 4 and {r.n for r in generator.asked} == {3}
    verdicts = [[r.outcome.verdict for r in g.rollouts if r.outcome] for g in groups]
    assert verdicts == [[Verdict.WRONG, Verdict.CORRECT, Verdict.WRONG]] * 4


def test_several_greedy_completions_are_refused():
    """vLLM rejects every such request."""
    greedy = Sampling(temperature=0.0)
    assert Independent(samples_per_prompt=1, sampling=greedy).sampling == greedy
    with pytest.raises(ValueError, match=r"rollouts\.samples_per_prompt is 2 at .* value is 1"):
        Independent(samples_per_prompt=2, sampling=greedy)


async def test_a_slow_prompt_holds_up_nobody():
    gates = {"0/a": asyncio.Event()}
    context = fake_context(FakeGenerator(write, gates=gates), FakeScorer())
    arrived = []
    async for group in STRATEGY.collect(small_prompts(3), context):
        arrived.append(group.prompt.prompt_id)
        if arrived == ["b", "c"]:  # both are here while 'a' still runs
            gates["0/a"].set()
    assert arrived == ["b", "c", "a"]


async def test_failures_are_values():
    generator = FakeGenerator(write, failing={"0/a"})
    context = fake_context(generator, FakeScorer(timeouts={"0/b/1"}))
    lost, unverified = [g async for g in STRATEGY.collect(small_prompts(2), context)]
    assert lost.rollouts == () and [f.reason for f in lost.failures] == ["generator_lost"]
    assert unverified.rollouts[1].outcome is None
    assert unverified.rollouts[1].scores["outcome"] == Failure(reason="timeout")


def test_refuses_no_samples():
    with pytest.raises(ValueError, match=r"samples_per_prompt is 0; the smallest valid value is 1"):
        Independent(samples_per_prompt=0)
