"""A group of generators without Ray: actors that live in this process, and the learner's part of a
weight sync."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from rlstep.actors.generator import generator_group, replicas
from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.weight_sync import WeightSync
from rlstep.config import GeneratorConfig
from rlstep.rollouts.progress import Progress
from rlstep.types import Completion, Failure, Request, Sampling
from tests.completions import make_completion
from tests.mortal import unless_dead

Answer = tuple[Completion, ...] | Failure

PROBE = (np.arange(70) % 40 + 3).astype(np.int32)
"""More than two cache blocks of 32."""


class Actor:
    """Stands for an actor's handle. It answers a request a turn of the event loop, for every stream
    the oldest first, unless it is frozen, paused or dead."""

    def __init__(self, replica: int) -> None:
        self.replica, self.version = replica, -1
        self.started = self.paused = self.closed = False
        self.asked: list[str] = []
        self.answered: set[str] = set()
        """By others too: none of these may be asked again."""
        self.forgets: set[str] = set()
        """Requests that it never answers."""
        self.on: dict[str, Callable[[], None]] = {}
        """Called at the start of a verb."""
        self.progress = Progress(lambda: asyncio.get_running_loop().time())
        self.moving = asyncio.Event()
        """Cleared while it is frozen: nothing that it is asked is answered, only its death is."""
        self.moving.set()
        self._resumed, self._dead = asyncio.Event(), asyncio.Event()

    @property
    def alive(self) -> bool:
        return not self._dead.is_set()

    def kill(self) -> None:
        self._dead.set()

    def __getattr__(self, verb: str) -> Any:
        found = getattr(type(self), f"do_{verb}")

        def remote(*arguments: Any) -> Any:
            if verb in self.on:
                self.on.pop(verb)()
            if verb == "generate":
                return found(self, *arguments)
            return asyncio.ensure_future(self._unless_dead(lambda: found(self, *arguments)))

        return SimpleNamespace(remote=remote)

    async def _unless_dead(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def moving() -> Any:
            await self.moving.wait()
            return await work()

        return await unless_dead(self._dead, moving)

    async def do_start(self) -> None:
        await asyncio.sleep(0)
        self.started = True

    async def do_generate(self, requests: list[Request]) -> AsyncIterator[Any]:
        assert self.started, "asked before it has an engine"
        assert self.version >= 0 or requests[0].request_id.startswith("probe"), "not synced"
        assert not self.answered & {request.request_id for request in requests}, "asked again"
        self.asked += [request.request_id for request in requests]
        for request in requests:
            answer = await self._unless_dead(partial(self._complete, request))
            told = asyncio.get_running_loop().create_future()
            told.set_result([(request.request_id, answer)])
            yield told

    async def _complete(self, request: Request) -> tuple[Completion, ...]:
        await asyncio.sleep(0)
        if self.paused:
            await self._resumed.wait()
        if request.request_id in self.forgets:
            await asyncio.Event().wait()
        self.progress.made()
        tokens = [7] * request.sampling.max_tokens
        return (make_completion(tokens, [(self.version, 0, len(tokens))]),) * request.n

    async def do_idle_s(self) -> float:
        return self.progress.idle_s()

    async def do_receive(self, version: int) -> None:
        assert self.paused, "weights while it writes"
        self.version = version

    async def do_weight_version(self) -> int:
        return self.version

    async def do_pause(self) -> None:
        assert not self.paused, "paused twice"
        self.paused = True
        self._resumed.clear()

    async def do_resume(self) -> None:
        assert self.paused
        self.paused = False
        self._resumed.set()
        self.progress.made()

    async def do_close(self) -> None:
        self.closed = True


class Group(GeneratorGroup):
    """Its actors are `Actor`s; `made` has all that there ever were."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config, "", {})
        self.made: list[Actor] = []
        self.on_create: Callable[[Actor], None] = lambda actor: None

    def _create(self, replica: int) -> Any:
        self.made.append(Actor(replica))
        self.on_create(self.made[-1])
        return self.made[-1]

    def kill(self, replica: int) -> None:
        self.epochs[replica].actor.kill()


class Learner:
    """What the sync asks of the policy's learner; `on` is awaited at the start of a verb."""

    def __init__(self, group: GeneratorGroup) -> None:
        self.group, self.joined = group, cast("list[Any]", [])
        self.on: dict[str, Callable[[], Awaitable[None]]] = {}

    async def _at(self, verb: str) -> None:
        if verb in self.on:
            await self.on.pop(verb)()

    async def train(self, samples: Any) -> dict[str, float]:
        await self._at("train")
        return {"updates": 1.0}

    async def join_generators(self, actors: list[Any], **_: Any) -> None:
        await self._at("join_generators")
        self.joined = list(actors)

    async def publish(self, version: int) -> None:
        await self._at("publish")
        assert self.joined == self.group.actors, "a replica that was never connected"
        await asyncio.gather(*(actor.receive.remote(version) for actor in self.joined))

    async def predict(self, sequences: list[Any]) -> list[Any]:
        await self._at("predict")
        return [(row / -100).astype(np.float32) for row in sequences]


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, replicas_: int = 1, max_recoveries: int = 3, **fields: Any
) -> AsyncIterator[tuple[Group, Learner, WeightSync]]:
    """Replicas that have been synced once, to version 4."""
    without_ray(monkeypatch)
    config = GeneratorConfig(replicas=replicas_, max_recoveries=max_recoveries, **fields)
    group = Group(config)
    await group.start()
    learner = Learner(group)
    sync = WeightSync(cast(Any, learner), group, PROBE, 0)
    await sync.start(4)
    yield group, learner, sync
    await group.settle()


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(kill=lambda actor, no_restart: actor.kill(), cancel=lambda stream: None)
    monkeypatch.setattr(replicas, "ray", ray)
    monkeypatch.setattr(generator_group, "ray", ray)


def requests(stream: int, number: int = 6, tokens: int = 3) -> list[Request]:
    sampling = Sampling(max_tokens=tokens)
    prefix = np.array([1, 2, 3], np.int32)
    return [
        Request(request_id=f"{stream}/{i}", prefix_ids=prefix, n=2, seed=0, sampling=sampling)
        for i in range(number)
    ]


async def answered(group: Group, asked: Sequence[Request]) -> dict[str, Answer]:
    """All answers, each of which came once."""
    found: dict[str, Answer] = {}
    async for request, answer in group.generate(asked):
        assert request.request_id not in found, "answered twice"
        found[request.request_id] = answer
    return found
