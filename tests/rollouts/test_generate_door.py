"""The door to the generators: what goes in is a request of the role, what comes out its answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import aiohttp
import numpy as np
import pytest

from rlstep.config import GeneratorConfig
from rlstep.rollouts.generate_door import GenerateDoor, check_door
from rlstep.testing.roles import FakeGenerator, fake_completion
from rlstep.types import Completion, Failure, Request, Sampling, VersionSpan

TOKEN = "a secret of this test"
PATH = "/inference/v1/generate"
KNOWS = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def opened(generator: Any, context: int = 128) -> AsyncIterator[Any]:
    """(body, headers) -> the status and the answer of a request over a door."""
    door = GenerateDoor(generator, TOKEN, context=context, seed=7)
    address = await door.open()
    async with aiohttp.ClientSession(address) as http:

        async def ask(body: Any, headers: dict[str, str] = KNOWS) -> tuple[int, Any]:
            async with http.post(PATH, json=body, headers=headers) as answer:
                return answer.status, await answer.json()

        try:
            yield ask
        finally:
            await door.close()


def echo(prefix: str, child: int, seed: int) -> str:
    return f"{prefix}{child}"


async def test_a_request_is_one_of_the_role_and_its_answer_is_the_role_s():
    generator = FakeGenerator(echo, version=3)
    sampling = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": -1,
        "min_tokens": 1,
        "stop": "x",
        "stop_token_ids": [4],
        "seed": 11,
        "n": 2,
        # What the clients of vLLM send beside it.
        "logprobs": 1,
        "skip_special_tokens": False,
        "repetition_penalty": 1.0,
        "routed_experts_prompt_start": 2,
        "min_p": None,
    }
    body = {"model": "any", "token_ids": [104, 105], "sampling_params": sampling}
    async with opened(generator) as ask:
        status, answer = await ask(body, {**KNOWS, "X-Session-ID": "one"})
    assert status == 200
    [asked] = generator.asked
    assert (asked.prefix_ids.dtype, asked.prefix_ids.tolist()) == (np.int32, [104, 105])
    assert (asked.n, asked.seed, asked.affinity) == (2, 11, "one")
    assert asked.sampling == Sampling(
        max_tokens=9, temperature=0.5, top_p=0.9, min_tokens=1, stop=("x",), stop_token_ids=(4,)
    )
    for child, choice in enumerate(answer["choices"]):
        whole = fake_completion(f"hi{child}", 9)
        assert choice["index"] == child and choice["finish_reason"] == "stop"
        assert choice["token_ids"] == whole.token_ids.tolist()
        content = choice["logprobs"]["content"]
        assert [entry["token_id"] for entry in content] == whole.token_ids.tolist()
        assert [entry["token"] for entry in content] == [f"token_id:{i}" for i in whole.token_ids]
        said = np.array([entry["logprob"] for entry in content], np.float32)
        assert said.tobytes() == whole.logprobs.tobytes()
        assert choice["weight_versions"] == [
            {"version": "3", "start": 0, "end": len(whole.token_ids)}
        ]


async def test_what_is_not_said_is_the_rest_of_the_context_and_a_seed_of_its_own():
    generator = FakeGenerator(echo)
    async with opened(generator, context=64) as ask:
        for _ in range(2):
            assert (await ask({"token_ids": [104] * 60}))[0] == 200
        assert (await ask({"token_ids": [104], "sampling_params": {"max_tokens": 1000}}))[0] == 200
    first, second, long = generator.asked
    assert (first.sampling, first.n, first.affinity) == (Sampling(max_tokens=4), 1, "")
    assert first.seed != second.seed and first.request_id != second.request_id
    assert long.sampling.max_tokens == 63


@dataclass
class Syncing:
    """Writes a token at a time, none while it is paused, each with the version that it serves."""

    version: int = 4
    running: asyncio.Event = field(default_factory=asyncio.Event)
    wrote: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once two tokens are written."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request is over, or nobody waits for it any more."""

    async def generate(
        self, requests: Sequence[Request]
    ) -> AsyncIterator[tuple[Request, tuple[Completion, ...] | Failure]]:
        [request] = requests
        versions: list[int] = []
        try:
            while len(versions) < 5:
                await self.running.wait()
                versions.append(self.version)
                if len(versions) == 2:
                    self.running.clear()  # the sync begins
                    self.wrote.set()
            spans = [versions.index(v) for v in sorted(set(versions))] + [len(versions)]
            yield (
                request,
                (
                    replace(
                        fake_completion("ab"),
                        token_ids=np.arange(5, dtype=np.int32),
                        logprobs=np.zeros(5, np.float32),
                        ends=np.arange(5),
                        versions=tuple(
                            VersionSpan(version=versions[start], start=start, end=end)
                            for start, end in pairwise(spans)
                        ),
                    ),
                ),
            )
        finally:
            self.left.set()


async def test_a_request_during_a_sync_waits_and_says_which_version_wrote_each_token():
    generator = Syncing()
    generator.running.set()
    async with opened(generator) as ask:
        asked = asyncio.create_task(ask({"token_ids": [1]}))
        await generator.wrote.wait()
        assert not asked.done()
        generator.version = 5
        generator.running.set()
        status, answer = await asked
    assert status == 200
    assert answer["choices"][0]["weight_versions"] == [
        {"version": "4", "start": 0, "end": 2},
        {"version": "5", "start": 2, "end": 5},
    ]


async def test_one_that_comes_while_the_role_is_paused_is_written_by_the_new_weights_alone():
    generator = Syncing()
    async with opened(generator) as ask:
        asked = asyncio.create_task(ask({"token_ids": [1]}))
        generator.version = 5
        generator.running.set()
        await generator.wrote.wait()
        generator.running.set()
        _, answer = await asked
    assert answer["choices"][0]["weight_versions"] == [{"version": "5", "start": 0, "end": 5}]


async def test_a_client_that_leaves_ends_its_request():
    generator = Syncing()
    generator.running.set()
    async with opened(generator) as ask:
        asked = asyncio.create_task(ask({"token_ids": [1]}))
        await generator.wrote.wait()
        asked.cancel()
        await asyncio.wait_for(generator.left.wait(), 60.0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer another secret of it"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer é\udcff"},
    ],
    ids=["none", "another", "shorter", "bare", "no-text"],
)
async def test_who_does_not_know_the_token_is_refused(headers: dict[str, str]):
    generator = FakeGenerator(echo)
    async with opened(generator) as ask:
        if "Bearer é\udcff" in headers.values():
            headers = {"Authorization": "Bearer é"}
        status, answer = await ask({"token_ids": [1]}, headers)
    assert status == 401 and TOKEN not in str(answer)
    assert not generator.asked


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([1], "the request is list; it must be a JSON object"),
        ({}, "token_ids must be a list of at least one token id"),
        ({"token_ids": []}, "token_ids must be a list"),
        ({"token_ids": [1, -1]}, "token_ids is -1; the smallest valid value is 0"),
        ({"token_ids": [1, 2**31]}, "the largest valid value is 2147483647"),
        ({"token_ids": [1, True]}, "token_ids is True; it must be a whole number"),
        ({"token_ids": ["1"]}, "token_ids is '1'; it must be a whole number"),
        ({"token_ids": [1] * 128}, "the context length is 128"),
        ({"token_ids": [1], "stream": True}, "stream is True; the door only knows False"),
        ({"token_ids": [1], "sampling_params": 3}, "sampling_params is int"),
    ],
)
async def test_a_request_that_is_none_is_refused_by_its_field(body: Any, words: str):
    generator = FakeGenerator(echo)
    async with opened(generator) as ask:
        status, answer = await ask(body)
    assert status == 400 and words in answer["error"]["message"]
    assert not generator.asked


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("presence_penalty", 0.5, "presence_penalty is 0.5; the door only knows 0.0"),
        ("logprobs", 5, "logprobs is 5; the door only knows 1"),
        ("guided_regex", "a", "sampling_params.guided_regex is not known; known are"),
        ("temperature", "hot", "sampling.temperature is 'hot'; it must be a number"),
        ("temperature", 3.0, "sampling.temperature is 3.0; the largest valid value is 2.0"),
        ("max_tokens", 0, "sampling.max_tokens is 0; the smallest valid value is 1"),
        ("max_tokens", 2.5, "sampling_params.max_tokens is 2.5; it must be whole"),
        ("n", 0, "sampling_params.n is 0; the smallest valid value is 1"),
        ("seed", -1, "sampling_params.seed is -1; the smallest valid value is 0"),
        ("stop", [1], "sampling_params.stop is [1]; it must be a list of str"),
        ("stop_token_ids", 4, "sampling_params.stop_token_ids is 4; it must be a list of int"),
    ],
)
async def test_what_cannot_be_sampled_is_refused_by_its_name(name: str, value: Any, words: str):
    generator = FakeGenerator(echo)
    async with opened(generator) as ask:
        status, answer = await ask({"token_ids": [1], "sampling_params": {name: value}})
    assert status == 400 and words in answer["error"]["message"]
    assert not generator.asked


@dataclass
class Failing:
    failure: Failure

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Any]:
        for request in requests:
            yield request, self.failure


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure(reason="rejected", detail="too long"), 400),
        (Failure(reason="generator_lost", detail="gone"), 503),
    ],
)
async def test_what_the_role_fails_is_no_completion(failure: Failure, status: int):
    async with opened(Failing(failure)) as ask:
        found, answer = await ask({"token_ids": [1]})
    assert found == status
    assert answer["error"]["message"] == f"{failure.reason}: {failure.detail}"


async def test_it_stands_on_the_loopback_and_is_gone_once_it_is_closed():
    door = GenerateDoor(FakeGenerator(echo), TOKEN, context=8, seed=0)
    address = await door.open()
    host, port = address.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    await door.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5.0)


def test_there_is_none_unless_it_is_asked_for():
    assert GeneratorConfig().door_port == 0


def test_a_door_without_a_secret_or_a_port_is_refused(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for secret in ("", "a" * 15):
            monkeypatch.setenv("RLSTEP_DOOR_TOKEN", secret)
            with pytest.raises(ValueError, match=f"door_port is {port}, and RLSTEP_DOOR_TOKEN"):
                check_door(port)
        monkeypatch.setenv("RLSTEP_DOOR_TOKEN", "a" * 16)
        with pytest.raises(ValueError, match=f"door_port is {port}, which cannot be had"):
            check_door(port)
    check_door(port)
