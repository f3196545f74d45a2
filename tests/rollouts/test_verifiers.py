"""The wire of verifiers, against a server of ours; test_verifiers_real.py has the package's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import msgpack
import numpy as np
import pytest
import zmq
import zmq.asyncio

from rlstep.config import GeneratorConfig
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.verifiers import Verifiers
from rlstep.scoring.processes.confined import spec_of
from rlstep.steps.turns import Turns
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_config, small_prompt
from rlstep.types import Failure, Group, Observed, OutcomeScore, Prompt, Sampling, Step, Verdict

SEEN = TOKENIZER.encode("\n+\n")
Change = Callable[[dict[str, Any]], Any]


def nothing(told: dict[str, Any]) -> None:
    """Leaves what the server tells as it is."""


@dataclass
class Server:
    """Plays episodes of so many turns over the door that a request names; what it tells at their
    end, 'delta' and 'reply', is changed first."""

    turns: int = 2
    change: Change = nothing
    rewrite: bool = False
    """Whether it forgets what was said before the last turn."""
    hold: asyncio.Event | None = None
    """Before an episode begins."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once something is cancelled, or an episode begins."""

    async def play(self, asked: dict[str, Any], tell: Any) -> None:
        self.asked.append(asked)
        self.first.set()
        if self.hold is not None:
            await self.hold.wait()
        name, client = f"trace of {asked['model']}", asked["client"]
        ids = TOKENIZER.encode(asked["task_data"]["prompt"])
        nodes = [{"token_ids": list(ids)}]
        await tell(b"delta", {"trace": "abandoned", "open": {}, "set": {}})
        await tell(b"delta", {"trace": "abandoned", "discard": True})
        async with aiohttp.ClientSession(headers=client["headers"]) as http:
            for turn in range(self.turns):
                if turn:
                    ids, nodes = [*ids, *SEEN], [*nodes, {"token_ids": SEEN}]
                body = {"token_ids": ids[turn and self.rewrite :]}
                body["sampling_params"] = asked["sampling"]  # type: ignore[assignment]
                url = client["base_url"].removesuffix("/v1") + "/inference/v1/generate"
                async with http.post(url, json=body, headers={"X-Session-ID": name}) as answer:
                    told = await answer.json()
                if answer.status != 200:
                    error = {"type": "ProviderError", "message": told["error"]["message"]}
                    await tell(b"delta", {"trace": name, "open": {}, "errors": [error]})
                    head = {"ok": False, "errors": []}
                    await tell(b"reply", {"success": True, "head": head, "traces": []})
                    return
                said = told["choices"][0]["token_ids"]
                ids, nodes = [*ids, *said], [*nodes, {"token_ids": said}]
        agent = {"name": "player", "trainable": True}
        rewards = {"a": {"score": 1.0, "weight": 0.5}, "b": {"score": -0.25, "weight": 1.0}}
        end = {
            "delta": {"trace": name, "nodes": nodes, "set": {"agent": agent, "rewards": rewards}},
            "reply": {
                "success": True,
                "error": None,
                "head": {"ok": True, "errors": []},
                "traces": [{"id": name}],
            },
        }
        self.change(end)
        for kind, data in end.items():
            await tell(kind.encode(), data)


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[str]:
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind("tcp://127.0.0.1:0")
    playing: set[asyncio.Task[None]] = set()

    async def serve() -> None:
        while True:
            who, name, method, payload = await socket.recv_multipart()
            data = msgpack.unpackb(payload)
            if method == b"cancel":
                server.cancelled.append(data["request_id"])
                server.first.set()
                continue

            async def tell(kind: bytes, data: Any, to: Any = (who, name)) -> None:
                await socket.send_multipart([*to, kind, msgpack.packb(data)])

            playing.add(asyncio.create_task(server.play(data, tell)))

    serving = asyncio.create_task(serve())
    try:
        yield socket.getsockopt_string(zmq.LAST_ENDPOINT)
    finally:
        for task in (serving, *playing):
            task.cancel()
        await asyncio.gather(serving, *playing, return_exceptions=True)
        socket.close()
        context.term()


def write(prefix: str, child: int, seed: int) -> str:
    return str(seed % 10)


def prompt(name: str = "p") -> Prompt:
    return replace(small_prompt(name, text=f"{name}="), meta={"task_data": {"prompt": f"{name}="}})


def strategy(address: str, **fields: Any) -> Verifiers:
    defaults = {"samples_per_prompt": 2, "sampling": Sampling(max_tokens=40, temperature=0.5)}
    return Verifiers(**{"address": address, "tokenizer": "folder", **defaults, **fields})


def collecting(made: Verifiers, generator: FakeGenerator | None = None) -> Any:
    asked = generator or FakeGenerator(write, version=7)
    context = fake_context(asked, FakeScorer(), splitter=Turns(), conversing=made, seed=3)
    return made.collect([prompt()], context)


async def played(server: Server, generator: Any = None, **fields: Any) -> Group:
    async with served(server) as address:
        [group] = [group async for group in collecting(strategy(address, **fields), generator)]
    return group


async def test_an_episode_is_what_the_generators_wrote_and_what_the_server_showed():
    generator, server = FakeGenerator(write, version=7), Server()
    group = await played(server, generator, wins=0.25)
    assert not group.failures and [r.rollout_id for r in group.rollouts] == ["0/p/0", "0/p/1"]
    for index, rollout in enumerate(group.rollouts):
        first, second = (
            request for request in generator.asked if request.affinity.endswith(f"/{index}")
        )
        said = [write("", 0, first.seed), write("", 0, second.seed)]
        # A digit and an end of sequence a turn, three bytes between.
        assert rollout.completion.text == f"{said[0]}\n+\n{said[1]}"
        assert rollout.steps == (Step(start=0, end=2), Step(start=5, end=7))
        assert rollout.completion.observed == (Observed(start=2, end=5),)
        logprobs = rollout.completion.token_ids / -100
        logprobs[2:5] = 0.0
        assert rollout.completion.logprobs.tolist() == logprobs.astype(np.float32).tolist()
        assert [(v.version, v.start, v.end) for v in rollout.completion.versions] == [
            (7, 0, 2),
            (7, 5, 7),
        ]
        assert first.sampling == Sampling(max_tokens=40, temperature=0.5)
        assert second.sampling == Sampling(max_tokens=35, temperature=0.5)  # 2 and 3 are used
        # 1 of weight 0.5, and -0.25 of weight 1.
        assert rollout.whole_score("return") == 0.25
        right = OutcomeScore(value=1.0, verdict=Verdict.CORRECT, extracted="")
        assert rollout.scores["outcome"] == right
    assert len({request.seed for request in generator.asked}) == 4
    assert {asked["client"]["renderer_model_name"] for asked in server.asked} == {"folder"}


async def test_the_same_run_asks_for_the_same_and_another_seed_for_others():
    seeds = []
    for _ in range(2):
        server = Server()
        await played(server)
        seeds.append(sorted(asked["sampling"]["seed"] for asked in server.asked))
    assert seeds[0] == seeds[1] and seeds[0][1] == seeds[0][0] + 1


async def test_without_a_bound_the_run_s_verifier_decides():
    group = await played(Server(turns=1))
    outcomes = [rollout.outcome for rollout in group.rollouts]
    assert all(o is not None and o.verdict is not Verdict.CORRECT for o in outcomes)


def set_in(*path: Any) -> Change:
    """Puts the last of a path at its end."""

    def change(told: dict[str, Any]) -> None:
        *way, name, value = path
        for step in way:
            told = told[step]
        told[name] = value

    return change


def two_that_are_trained(told: dict[str, Any]) -> None:
    """Under one id: what is summed up twice."""
    told["reply"]["traces"] *= 2


@pytest.mark.parametrize(
    ("server", "reason", "words"),
    [
        (Server(rewrite=True), "rewritten", "begins otherwise"),
        (Server(turns=0), "crashed", "never asked"),
        (Server(turns=9), "crashed", "no room left of 40 tokens"),
        (Server(change=set_in("reply", "success", False)), "crashed", "None"),
        (
            Server(
                change=set_in(
                    "reply", "head", {"ok": False, "errors": [{"type": "E", "message": "why"}]}
                )
            ),
            "crashed",
            "E: why",
        ),
        (Server(change=two_that_are_trained), "several_agents", "['player', 'player']"),
        (
            Server(change=set_in("delta", "set", "agent", "trainable", False)),
            "several_agents",
            "[] are trained",
        ),
        (
            Server(change=set_in("delta", "nodes", 1, "token_ids", [1])),
            "other_tokens",
            "the record has",
        ),
        (
            Server(change=set_in("delta", "set", "rewards", "a", "score", float("nan"))),
            "bad_observation",
            "nan",
        ),
    ],
    ids=[
        "rewritten",
        "no-turn",
        "no-room",
        "refused",
        "not-ok",
        "two-agents",
        "no-agent",
        "tokens",
        "nan",
    ],
)
async def test_what_cannot_be_trained_on_is_a_failure_by_reason(
    server: Server, reason: str, words: str
):
    group = await played(server)
    assert not group.rollouts and [f.reason for f in group.failures] == [reason] * 2
    assert all(words in failure.detail for failure in group.failures)


async def test_another_prompt_is_a_failure():
    server = Server()
    async with served(server) as address:
        made = strategy(address)
        context = fake_context(
            FakeGenerator(write), FakeScorer(), splitter=Turns(), conversing=made
        )
        asked = replace(prompt(), meta={"task_data": {"prompt": "q="}})
        [group] = [group async for group in made.collect([asked], context)]
    assert [failure.reason for failure in group.failures] == ["other_prompt"] * 2


async def test_a_late_episode_is_cancelled():
    server = Server(hold=asyncio.Event())
    async with served(server) as address:
        [group] = [g async for g in collecting(strategy(address, deadline_s=1.0))]
        assert [failure.reason for failure in group.failures] == ["timeout"] * 2
        while len(server.cancelled) < 2:
            server.first.clear()
            await asyncio.wait_for(server.first.wait(), 60.0)


async def test_who_leaves_cancels_what_is_played():
    server = Server(hold=asyncio.Event())
    async with served(server) as address:
        async with aclosing(collecting(strategy(address))) as groups:
            asked = asyncio.create_task(anext(groups))
            await asyncio.wait_for(server.first.wait(), 60.0)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        while len(server.cancelled) < 2:
            server.first.clear()
            await asyncio.wait_for(server.first.wait(), 60.0)


async def test_where_no_server_is_every_episode_is_a_failure():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as free:
        free.bind("tcp://127.0.0.1:0")
        address = free.getsockopt_string(zmq.LAST_ENDPOINT)
    [group] = [group async for group in collecting(strategy(address))]
    assert [failure.reason for failure in group.failures] == ["unreachable"] * 2


async def test_a_prompt_without_its_task_is_refused():
    made = strategy("tcp://127.0.0.1:1")
    context = fake_context(FakeGenerator(write), FakeScorer(), splitter=Turns(), conversing=made)
    with pytest.raises(ValueError, match="prompt 'x' has no object 'task_data'"):
        [group async for group in made.collect([small_prompt("x")], context)]


def test_a_configuration_takes_it():
    made = strategy("tcp://127.0.0.1:1", wins=1.0)
    config = small_config(rollouts=made, splitter=Turns(), generator=GeneratorConfig(context=128))
    assert config.rollouts.conversing is made
    assert spec_of(made.environment, "environment")  # as before a run
    with pytest.raises(ValueError, match="cannot be replayed"):
        small_config(rollouts=made, splitter=Turns(), labellers=(MonteCarlo(),))


async def test_it_is_not_gone_on_with_from_the_middle():
    made: Any = strategy("tcp://127.0.0.1:1", wins=1.0)
    assert (made.environment.replays, made.environment.decides) == (False, True)
    assert not strategy("tcp://127.0.0.1:1").environment.decides
    failed = await made.go_on(None, 1, None, None, None)
    assert isinstance(failed, Failure) and failed.reason == "environment_lost"
    assert made.alone(3, Sampling(temperature=0.0)).samples_per_prompt == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"address": "tcp://10.0.0.1:5000"}, "rollouts.address is 'tcp://10.0.0.1:5000'"),
        ({"samples_per_prompt": 0}, "rollouts.samples_per_prompt is 0"),
        ({"turn_tokens": -1}, "rollouts.turn_tokens is -1"),
        ({"deadline_s": 0.5}, "rollouts.deadline_s is 0.5"),
        ({"wins": float("inf")}, "rollouts.wins is inf"),
        ({"sampling": Sampling(stop=("x",))}, "rollouts.sampling.stop"),
    ],
)
def test_refused_fields(fields: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        strategy(**{"address": "tcp://127.0.0.1:1", **fields})
