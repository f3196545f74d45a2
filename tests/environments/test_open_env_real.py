"""`OpenEnv` against the server of the real package (openenv 0.10.0), in an environment of its own:
one that is made for it, or the one whose Python RLSTEP_OPENENV_PYTHON names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from rlstep.environments.open_env import OpenEnv
from rlstep.environments.plain_turns import PlainTurns
from rlstep.rollouts.conversation import Conversation
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.steps.turns import Turns
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import (
    Action,
    Failure,
    History,
    Observation,
    OutcomeScore,
    Prompt,
    Sampling,
    Verdict,
)
from tests.real_package import python_with, started
from tests.waiting import gone, wait_for

pytestmark = pytest.mark.slow

SERVER = str(Path(__file__).with_name("open_env_server.py"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("openenv")
    return python_with("openenv==0.10.0", "RLSTEP_OPENENV_PYTHON", folder)


class Talking(FakeScorer):
    """Conversations with a server, in a process of the pool as in a run."""

    def __init__(self, environment: OpenEnv) -> None:
        super().__init__(environment=environment)
        self.pool = EnvironmentPool(environment, deadline_s=60.0)
        self.leaving: list[asyncio.Task[None]] = []

    async def observe(self, history: History) -> Observation | Failure:
        return await self.pool.observe(history)

    def leave(self, history: History) -> None:
        self.leaving.append(asyncio.create_task(self.pool.leave(history)))

    async def say(self, asked: Prompt, *words: str, name: str = "x") -> list[Any]:
        """What the turns of a conversation are answered; it is left where it is not done."""
        calls = [history(asked, name, *words[: n + 1]) for n in range(len(words))]
        seen: list[Any] = [await self.observe(call) for call in calls]
        if isinstance(seen[-1], Observation) and not seen[-1].done:
            await self.pool.leave(calls[-1])
        return seen


@asynccontextmanager
async def talking(url: str, **fields: Any) -> AsyncIterator[Talking]:
    scorer = Talking(OpenEnv(url=url, **fields))
    try:
        yield scorer
        await asyncio.gather(*scorer.leaving)
    finally:
        pids = scorer.pool.pids()
        await scorer.pool.close()
        wait_for(gone(pids), "end of the environment's process")


@pytest.fixture(scope="module")
def one(python: str):
    """The address of a server that allows one session at a time: a test that left one behind would
    fail the next."""
    with started(python, SERVER, "1") as (_, port):
        yield f"http://127.0.0.1:{port}"


def prompt(name: str = "p", **reset: Any) -> Prompt:
    return replace(small_prompt(name, text=f"{name}\n"), meta={"reset": reset})


def history(asked: Prompt, name: str, *words: str) -> History:
    actions = tuple(Action(text=word, token_ids=(1,)) for word in words)
    return History(episode_id=name, prompt=asked, seed=5, actions=actions)


@pytest.mark.parametrize(
    ("adds", "rewards", "verdict"),
    [("25", [0.1, 1.0], Verdict.CORRECT), ("44", [0.1, 0.1], Verdict.WRONG)],
    ids=["3+2+5", "3+4+4"],
)
async def test_turns_earn_what_the_server_pays_for_each(
    python: str, adds: str, rewards: list[float], verdict: Verdict
):
    def write(prefix: str, child: int, seed: int) -> str:
        return adds["now" in prefix]

    with started(python, SERVER, "32") as (_, port):
        url = f"http://127.0.0.1:{port}"
        async with talking(url, action="add", text="said", wins=1.0) as scorer:
            assert scorer.environment is not None
            strategy = Conversation(
                environment=scorer.environment,
                samples_per_prompt=2,
                sampling=Sampling(max_tokens=100),
                format=PlainTurns(),
            )
            context = fake_context(
                FakeGenerator(write), scorer, splitter=Turns(), conversing=strategy
            )
            prompts = [prompt(f"p{number}", start=3) for number in range(16)]
            groups = [group async for group in strategy.collect(prompts, context)]
    assert [len(group.rollouts) for group in groups] == [2] * 16
    for rollout in (rollout for group in groups for rollout in group.rollouts):
        scores, outcome = rollout.step_scores("environment"), rollout.scores["outcome"]
        assert (
            scores is not None and scores.values.tolist() == np.array(rewards, np.float32).tolist()
        )
        assert isinstance(outcome, OutcomeScore) and outcome.verdict is verdict
        assert rollout.observation_text(0).strip() == f"now {3 + int(adds[0])}"


async def test_sessions_come_one_after_the_other_and_no_two_at_once(one: str):
    async with talking(one, action="add", text="said") as scorer:
        for number in range(20):  # done, and left, by turns
            words = ["7"] if number % 2 else ["2"]
            [seen] = await scorer.say(prompt(start=3), *words, name=f"e{number}")
            assert (seen.text, seen.done) == (f"now {3 + int(words[0])}", bool(number % 2))
        episode = await asyncio.to_thread(OpenEnv(url=one).reset, prompt(), 0)
        [refused] = await scorer.say(prompt(), "1", name="two")
        assert isinstance(refused, Failure) and refused.reason == "crashed"
        assert "CAPACITY_REACHED" in refused.detail
        await asyncio.to_thread(episode.close)
        [seen] = await scorer.say(prompt(), "1", name="three")
        assert seen.text == "now 1"


async def test_a_broken_action_is_told_the_policy_in_the_package_s_words(one: str):
    async with talking(one, text="said") as scorer:
        words = ['{"add": "two"}', '{"plus": 2}', '{"add": -1}', "{}", "2", '{"add": "2"}']
        *broken, seen = await scorer.say(prompt(start=3), *words)
        assert [each.text for each in broken] == [
            "error: add: Input should be a valid integer, unable to parse string as an integer",
            "error: add: Field required; plus: Extra inputs are not permitted",
            "error: add: Input should be greater than or equal to 0",
            "error: add: Field required",
            "error: no JSON object",
        ]
        assert all(each.counts == {"broken_actions": 1.0} for each in broken)
        assert seen == Observation(text="now 5", reward=0.1)


@pytest.mark.parametrize(
    ("pays", "reward", "counts"),
    [
        (0.25, 0.25, {}),
        (-3, -3.0, {}),
        (True, 1.0, {}),
        (None, 0.0, {"unpaid": 1.0}),
        ("nan", 0.0, {"unpaid": 1.0}),
        ("inf", 0.0, {"unpaid": 1.0}),
    ],
)
async def test_what_the_wire_makes_of_a_reward(one: str, pays: Any, reward: float, counts: Any):
    async with talking(one, action="add", text="said") as scorer:
        [seen] = await scorer.say(prompt(pays=pays), "1")
        assert seen == Observation(text="now 1", reward=reward, counts=counts)


@pytest.mark.parametrize(
    ("words", "detail"),
    [(["1", "99"], "EXECUTION_ERROR: too much"), (["1", "77"], "SESSION_ERROR: ")],
    ids=["raises", "its-own-validator"],
)
async def test_what_ends_a_session_is_a_failure(one: str, words: list[str], detail: str):
    async with talking(one, action="add", text="said") as scorer:
        first, failed = await scorer.say(prompt(), *words)
        assert first.text == "now 1"
        assert isinstance(failed, Failure) and failed.reason == "crashed"
        assert detail in failed.detail
        [seen] = await scorer.say(prompt(), "2", name="next")
        assert seen.text == "now 2"


async def test_a_server_that_is_killed_in_the_middle_fails_its_conversations(python: str):
    with started(python, SERVER, "8") as (server, port):
        async with talking(f"http://127.0.0.1:{port}", action="add", text="said") as scorer:
            names = [f"e{number}" for number in range(6)]
            begun = [scorer.observe(history(prompt(), name, "1")) for name in names]
            assert {seen.text for seen in await asyncio.gather(*begun)} == {"now 1"}  # type: ignore[union-attr]
            server.kill()
            server.wait()
            for name in names:
                failed = await scorer.observe(history(prompt(), name, "1", "1"))
                assert isinstance(failed, Failure) and failed.reason == "crashed"
                assert "the server ended the session after 'step'" in failed.detail
            [failed] = await scorer.say(prompt(), "1", name="late")
            assert isinstance(failed, Failure) and "onnect" in failed.detail


async def test_a_turn_may_take_longer_than_the_server_waits_for_an_answer_to_its_pings(python: str):
    """A session beside it that answers none shows that the server has ended what it had to."""
    with started(python, SERVER, "2", "2") as (_, port):
        url = f"http://127.0.0.1:{port}"
        async with (
            talking(url, action="add", text="said") as scorer,
            aiohttp.ClientSession() as http,
        ):
            seen = await scorer.observe(history(prompt(), "x", "1"))
            assert isinstance(seen, Observation) and seen.text == "now 1"
            mute = await http.ws_connect(f"{url}/ws", autoping=False)
            while (message := await mute.receive()).type is aiohttp.WSMsgType.PING:
                pass
            assert message.type is aiohttp.WSMsgType.CLOSE
            seen = await scorer.observe(history(prompt(), "x", "1", "1"))
            assert isinstance(seen, Observation) and seen.text == "now 2"
