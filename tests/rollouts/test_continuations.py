"""Drawing continuations: seeds that all estimators share, each prefix once, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from rlstep.interfaces import Answer
from rlstep.rollouts.continuations import Continuations, Tally, prefix_seed, with_counts
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.types import Failure, Request, Rollout
from tests.builders import make_rollout
from tests.rollouts.label_kit import RIGHT, chain, coins, counts, wrong_from


def by(number: int, batch: int):
    """Draw `number` continuations, `batch` at a time."""
    return lambda n, k, asked: min(batch, number - asked)


async def tallies(
    rollouts: Sequence[Rollout], generator: FakeGenerator, number: int = 4, batch: int = 4
) -> list[Tally]:
    """Of every proper prefix of every rollout, all asked for at once."""
    context = fake_context(generator, FakeScorer())
    async with Continuations(context) as continuations:
        asked = [(r, steps) for r in rollouts for steps in range(1, len(r.steps))]
        more = by(number, batch)
        return await asyncio.gather(*(continuations.tally(*each, more) for each in asked))


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
async def test_the_draws_of_a_prefix_do_not_depend_on_how_they_are_asked_for(batch: int):
    drawn: dict[str, list[int]] = {}

    def note(prefix: str, child: int, seed: int) -> str:
        drawn.setdefault(prefix, []).append(seed + child)
        return RIGHT

    rollouts = [chain("a", 4), chain("b", 3)]
    await tallies(rollouts, FakeGenerator(note), number=8, batch=batch)
    context = fake_context(FakeGenerator(note), FakeScorer())
    for rollout in rollouts:
        for steps in range(1, len(rollout.steps)):
            first = prefix_seed(rollout.prefix_ids(steps), context)
            text = rollout.prompt.text + "".join(rollout.step_text(i) for i in range(steps))
            assert drawn.pop(text) == list(range(first, first + 8))
    assert drawn == {}


def test_a_prefix_seed_depends_on_prefix_iteration_purpose_and_run():
    generator = FakeGenerator(lambda *_: "")
    contexts = [
        fake_context(generator, FakeScorer(), iteration=iteration, purpose=purpose, seed=seed)
        for iteration in (0, 1)
        for purpose in ("", "probe")
        for seed in (0, 1)
    ]
    prefixes = [np.array(ids, np.int32) for ids in ([1, 2], [1, 2, 3], [1, 3])]
    assert len({prefix_seed(p, c) for p in prefixes for c in contexts}) == 24


async def test_requests_are_named_apart_and_stay_with_their_prompt():
    generator = FakeGenerator(lambda *_: RIGHT)
    await tallies([chain("a", 3)], generator, number=4, batch=2)
    names = [(r.request_id, r.n, r.affinity) for r in generator.asked]
    assert names == [("0/a/0/mc1", 2, "a"), ("0/a/0/mc2", 2, "a"),
                     ("0/a/0/mc1+2", 2, "a"), ("0/a/0/mc2+2", 2, "a")]  # fmt: skip


# --- asking --------------------------------------------------------------------------------------


class Calls(FakeGenerator):
    """Notes what came in one call."""

    def __init__(self, write) -> None:
        super().__init__(write)
        self.calls: list[list[str]] = []

    def generate(self, requests: Sequence[Request]) -> AsyncIterator[Answer]:
        self.calls.append([request.request_id for request in requests])
        return super().generate(requests)


async def test_what_is_asked_at_the_same_time_travels_together_shortest_prefix_first():
    generator = Calls(lambda *_: RIGHT)
    await tallies([chain("a", 4), chain("b", 3)], generator)
    assert generator.calls == [[f"0/a/0/mc{i}" for i in (1, 2, 3)] + ["0/b/0/mc1", "0/b/0/mc2"]]


async def test_a_prefix_of_several_rollouts_is_drawn_once():
    one, generator = chain("a", 4), FakeGenerator(coins(lambda steps: 0.5))
    twice = await tallies([one, one], generator, batch=2)
    assert twice[:3] == twice[3:] and len(generator.asked) == 2 * 3


async def test_prompts_that_read_alike_are_kept_apart():
    """Their answers may differ."""
    one, other = chain("a", 2), chain("b", 2)
    tokens = one.prompt.token_ids
    assert len(tokens) == len(other.prompt.token_ids)
    other.prompt.token_ids[:] = tokens
    other.completion.token_ids[:] = one.completion.token_ids
    generator = FakeGenerator(lambda *_: RIGHT)
    await tallies([one, other], generator)
    assert len(generator.asked) == 2


async def test_nobody_waits_for_anothers_answers():
    """Prompt a's second batch is answered while prompt b's first one is held back."""
    gate = asyncio.Event()
    generator = FakeGenerator(lambda *_: RIGHT, gates={"0/b/0/mc1": gate})

    class Opening(FakeScorer):
        async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
            if rollouts[0].rollout_id.startswith("0/a/0/mc1+2"):
                gate.set()
            return await super().verify(rollouts)

    async with Continuations(fake_context(generator, Opening())) as continuations:
        both = [continuations.tally(chain(name, 2), 1, by(4, 2)) for name in "ab"]
        async with asyncio.timeout(30):
            assert [tally.n for tally in await asyncio.gather(*both)] == [4, 4]
    assert generator.answered.index("0/a/0/mc1+2") < generator.answered.index("0/b/0/mc1")


async def test_a_failed_request_has_no_verdicts_and_is_said(caplog: pytest.LogCaptureFixture):
    generator = FakeGenerator(lambda *_: RIGHT, failing={"0/a/0/mc1"})
    failed, after = await tallies([chain("a", 3)], generator, number=4, batch=2)
    assert (failed.n, failed.k, after.n, after.k) == (2, 2, 4, 4)
    assert "{'generator_lost': 1}" in caplog.text


class Lost(FakeGenerator):
    """Answers one request, and is lost."""

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Answer]:
        yield requests[0], Failure(reason="rejected")
        raise RuntimeError("generator 0 was lost")


async def test_an_error_reaches_whoever_waits_and_leaves_no_task():
    before = asyncio.all_tasks()
    with pytest.raises(RuntimeError, match="generator 0 was lost"):
        await tallies([chain("a", 4), chain("b", 4)], Lost(lambda *_: RIGHT), batch=1)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


# --- counting ------------------------------------------------------------------------------------


def test_tallies_add_up_and_keep_the_oldest_version():
    one, two = Tally(n=3, k=1, truncated=2, version=5), Tally(n=1, k=1, version=4)
    assert one + two == Tally(n=4, k=2, truncated=2, version=4)
    assert one + Tally() == one and Tally() + Tally() == Tally()


def test_a_rollout_without_a_verdict_says_nothing():
    assert Tally.of(make_rollout("r", [[1], [2]])) == Tally()


def test_a_continuation_has_the_version_of_its_own_tokens():
    """The inherited ones are older, and were not drawn for it."""
    branch = make_rollout(
        "r", [[1, 2], [3]], outcome=1.0, parent="p", inherited=2, versions=[(3, 0, 2), (4, 2, 3)]
    )
    assert Tally.of(branch) == Tally(n=1, k=1, version=4)


async def test_counts_carry_the_version_that_wrote_the_continuations():
    generator = FakeGenerator(coins(wrong_from(1)), version=7)
    rollout = chain("a", 3)  # of version 0
    (one, two) = await tallies([rollout], generator)
    scores = with_counts(rollout, {0: one, 1: two}).step_scores("monte_carlo")
    assert scores is not None and scores.version == 7
    assert counts(scores) == [[4, 4, 0], [4, 0, 0], [0, 0, 0]]
    assert scores.values.tolist() == [1.0, 0.0, 0.0]
    nothing = with_counts(rollout, {}).step_scores("monte_carlo")
    assert nothing is not None and nothing.version == 0 and counts(nothing)[0] == [0, 0, 0]
