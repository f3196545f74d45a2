"""Many groups on their way to an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from rlstep.rollouts.verification import verified
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.types import Group, Rollout
from tests.builders import make_group, make_prompt, make_rollout


def group(name: str) -> Group:
    return make_group(make_rollout(name, [[11]], prompt=make_prompt(name)))


async def made(
    *names: str, error: Exception | None = None, last: asyncio.Event | None = None
) -> AsyncGenerator[Group, None]:
    """These groups; then the error, or nothing more until the event is set."""
    for name in names:
        yield group(name)
    if error is not None:
        raise error
    if last is not None:
        await last.wait()


class Gated(FakeScorer):
    """Verifies a prompt's rollouts when its event is set; notes what it began."""

    def __init__(self, *held: str) -> None:
        super().__init__()
        self.gates = {name: asyncio.Event() for name in held}
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        name = rollouts[0].prompt.prompt_id
        self.begun.append(name)
        try:
            if name in self.gates:
                await self.gates[name].wait()
            if name == "broken":
                raise RuntimeError("scorer 0 is lost")
            return await super().verify(rollouts)
        finally:
            self.ended.append(name)


def context(scorer: FakeScorer):
    return fake_context(FakeGenerator(lambda prefix, child, seed: ""), scorer)


async def test_a_slow_decision_holds_up_nobody():
    scorer = Gated("a")
    arrived = []
    async with asyncio.timeout(20):
        async for decided in verified(made("a", "b", "c"), context(scorer)):
            arrived.append(decided.prompt.prompt_id)
            assert all(r.outcome is not None for r in decided.rollouts)
            if arrived == ["b", "c"]:
                scorer.gates["a"].set()
    assert arrived == ["b", "c", "a"] and scorer.begun == ["a", "b", "c"]


async def test_without_waiting_the_order_is_kept():
    decided = [g.prompt.prompt_id async for g in verified(made(*"abcdef"), context(FakeScorer()))]
    assert decided == list("abcdef")


@pytest.mark.parametrize("error", [RuntimeError("generator 0 is lost"), ValueError("no")])
async def test_errors_of_the_source_are_raised(error: Exception):
    with pytest.raises(type(error), match=str(error)):
        async for _ in verified(made("a", error=error), context(FakeScorer())):
            pass


@pytest.mark.parametrize("last", [None, asyncio.Event()], ids=["all are in", "more are awaited"])
async def test_errors_of_the_scorer_are_raised_and_end_the_rest(last: asyncio.Event | None):
    scorer = Gated("slow")
    with pytest.raises(RuntimeError, match="scorer 0 is lost"):
        async with asyncio.timeout(60):
            async for _ in verified(made("slow", "broken", last=last), context(scorer)):
                pass
    assert sorted(scorer.ended) == ["broken", "slow"]  # nobody is left waiting


async def test_leaving_early_leaves_nothing_running():
    scorer = Gated("a", "c")
    async with aclosing(verified(made("a", "b", "c"), context(scorer))) as groups:
        assert (await anext(groups)).prompt.prompt_id == "b"
    assert sorted(scorer.ended) == sorted(scorer.begun)
