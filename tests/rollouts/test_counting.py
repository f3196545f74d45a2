"""What was sampled is counted, once, whoever asked for it."""

from __future__ import annotations

from rlstep.rollouts.counting import CountingGenerator
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Sampling


async def test_rollouts_and_continuations_count_and_failures_do_not():
    generator = CountingGenerator(
        FakeGenerator(lambda prefix, child, seed: "1\n#10" if prefix == "p\n" else "#10"), 100
    )
    context = fake_context(generator, FakeScorer())
    strategy = Independent(samples_per_prompt=2, sampling=Sampling(max_tokens=16))
    prompt = small_prompt("p", text="p\n", answer="10")
    [group] = [group async for group in strategy.collect([prompt], context)]
    # Two completions of '1', newline, '#', '1', '0' and the end token, on 100 from before.
    assert generator.sampled == 112
    await MonteCarlo(continuations=3).label(group.rollouts, context)
    # Both have the same first step, which is continued once: three times '#10' and its end token.
    assert generator.sampled == 124
    failing = CountingGenerator(FakeGenerator(lambda *_: "", failing={"0/p"}))
    _ = [each async for each in strategy.collect([prompt], fake_context(failing, FakeScorer()))]
    assert failing.sampled == 0
