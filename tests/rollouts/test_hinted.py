"""Judgments that were told what to come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlstep.measuring.metrics import accuracy
from rlstep.rollouts.hinted import Hinted
from rlstep.scoring.answers.verdict_answer import VerdictAnswer
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context, token_ids
from rlstep.testing.small import small_prompt
from rlstep.types import Failure, OutcomeScore, Prompt, Sampling, Verdict

STRATEGY = Hinted(samples_per_prompt=3, hinted=2, sampling=Sampling(max_tokens=64))


def prompt(name: str, answer: str = "A") -> Prompt:
    hints = {side: token_ids(f"{name}? say {side}") for side in "AB"}
    return replace(small_prompt(name, f"{name}?", answer), meta={"hints": hints})


def obeying(prefix: str, child: int, seed: int) -> str:
    """What the hint says; without one A, B, and nothing to be read."""
    told = prefix.partition(" say ")[2]
    return f"Verdict: {told or 'AB?'[child]}"


def context(generator: FakeGenerator):
    return fake_context(generator, FakeScorer(verifier=VerdictAnswer()))


async def test_one_group_with_both_kinds():
    generator = FakeGenerator(obeying)
    groups = [
        g async for g in STRATEGY.collect([prompt("p"), prompt("q", "B")], context(generator))
    ]
    assert [g.prompt.prompt_id for g in groups] == ["p", "q"]
    p, q = groups
    assert [r.rollout_id for r in p.rollouts] == [
        *("0/p/0", "0/p/1", "0/p/2"),
        *("0/p/hintA/0", "0/p/hintA/1", "0/p/hintB/0", "0/p/hintB/1"),
    ]
    verdicts = [r.outcome.verdict for r in q.rollouts if r.outcome is not None]
    plain = [Verdict.WRONG, Verdict.CORRECT, Verdict.UNPARSABLE]
    assert verdicts == [*plain, Verdict.WRONG, Verdict.WRONG, Verdict.CORRECT, Verdict.CORRECT]
    hints = [r.scores.get("hint") for r in q.rollouts]
    wrong = OutcomeScore(value=0.0, verdict=Verdict.WRONG, extracted="A")
    right = OutcomeScore(value=1.0, verdict=Verdict.CORRECT, extracted="B")
    assert hints == [None, None, None, wrong, wrong, right, right]


async def test_the_hint_is_asked_and_not_trained():
    generator = FakeGenerator(obeying)
    [group] = [g async for g in STRATEGY.collect([prompt("p")], context(generator))]
    asked = {r.request_id: bytes(r.prefix_ids.tolist()).decode() for r in generator.asked}
    assert asked == {"0/p": "p?", "0/p/hintA": "p? say A", "0/p/hintB": "p? say B"}
    assert len({r.seed for r in generator.asked}) == 3
    for rollout in group.rollouts:
        assert rollout.prompt is group.prompt
        start = rollout.prefix_ids(0).tolist()
        assert bytes(start).decode() == "p?"


async def test_hinted_judgments_are_not_in_the_accuracy():
    [group] = [g async for g in STRATEGY.collect([prompt("p")], context(FakeGenerator(obeying)))]
    measured = accuracy([group])
    assert measured is not None and measured.value == pytest.approx(1 / 3)  # 'A' of A, B and ?
    assert {r.parent for r in group.rollouts[3:]} == {"0/p/0"}


async def test_failures_are_values():
    generator = FakeGenerator(obeying, failing={"0/p", "0/q/hintB"})
    p, q = [g async for g in STRATEGY.collect([prompt("p"), prompt("q")], context(generator))]
    assert p.failures == q.failures == (Failure(reason="generator_lost"),)
    assert len(p.rollouts) == 4 and len(q.rollouts) == 5


async def test_prompts_without_hints_are_refused():
    with pytest.raises(ValueError, match="prompt 'p' has no 'hints' in its meta"):
        async for _ in STRATEGY.collect([small_prompt("p")], context(FakeGenerator(obeying))):
            pass


def test_bad_fields_are_refused():
    with pytest.raises(ValueError, match=r"rollouts.hinted is 0; the smallest valid value is 1"):
        Hinted(hinted=0)
    with pytest.raises(ValueError, match=r"rollouts.samples_per_prompt is 0"):
        Hinted(samples_per_prompt=0)
