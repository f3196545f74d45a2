"""Engines that sleep: a generator's verbs and its weights, in virtual time, and what can be done to
them. They live in this process; a group of them is the real one but for that."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.config import GeneratorConfig
from rlstep.rollouts.progress import Progress
from rlstep.rollouts.recoveries import Recoveries
from rlstep.testing.roles import TOKENIZER, fake_completion
from rlstep.types import Completion, Request, VersionSpan
from tests.faults.history import History
from tests.faults.virtual_time import now
from tests.mortal import unless_dead

START_S, CRAWLING_S = 20.0, 15.0
BUCKETS, BUCKET_S = 4, 0.5
"""Of a weight transfer."""
SILENCE_S = 30.0
"""Of a transfer, then it fails."""
MIXED = -1000
"""The content of weights of which a part has come."""


class Running:
    """A request that is under way."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.texts = [written(request, child) for child in range(request.n)]
        self.longest = max(len(text) + 1 for text in self.texts)
        self.tokens: list[tuple[int, int]] = []
        """Label and content of the weights at every token."""


def written(request: Request, child: int) -> str:
    """Lengths are lognormal, as those of solutions are; every second problem has a right one and a
    wrong one."""
    if request.sampling.min_tokens:  # a probe
        return "x" * request.sampling.max_tokens
    prefix = TOKENIZER.decode(request.prefix_ids.tolist())
    random = Random(zlib.crc32(f"{request.request_id} {child}".encode()))
    right = child == 0 or zlib.crc32(prefix.encode()) % 2
    length = min(int(math.exp(random.gauss(2.0, 0.8))), 40)
    return "x" * length + ("\n#5" if right else "\n#9")


class Engine:
    """Stands for the handle of an actor."""

    made = 0

    def __init__(self, replica: int, history: History, token_s: float) -> None:
        Engine.made += 1
        self.token_s = token_s
        """One token of everything that runs."""
        self.replica, self.history, self.name = replica, history, f"{replica}.{Engine.made}"
        self.label = self.content = 0
        """Of the model on the disk."""
        self.started = self.paused = self.loading = False
        self.refuses = self.garbles = self.stillborn = False
        self.running: deque[tuple[Running, asyncio.Queue[Any]]] = deque()
        self.progress = Progress(now)
        self.moving, self.dead = asyncio.Event(), asyncio.Event()
        self.moving.set()
        self.busy = asyncio.Event()
        self.tasks = [asyncio.ensure_future(self._decode())]

    # --- what can be done to it ------------------------------------------------------------------

    @property
    def state(self) -> str:
        if not self.started:
            return "starting"
        if self.loading:
            return "loading"
        return "serving" if self.running else "idle"

    def kill(self) -> None:
        self.dead.set()
        for task in self.tasks:
            task.cancel()

    def freeze(self, seconds: float) -> None:
        """As SIGSTOP, and SIGCONT after."""
        self.moving.clear()
        self.tasks.append(asyncio.ensure_future(self._thaw(seconds)))

    async def _thaw(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.moving.set()

    def crawl(self, seconds: float) -> None:
        """Every step takes as long as is just allowed."""
        usual, self.token_s = self.token_s, CRAWLING_S
        self.tasks.append(asyncio.ensure_future(self._recover(seconds, usual)))

    async def _recover(self, seconds: float, usual: float) -> None:
        await asyncio.sleep(seconds)
        self.token_s = usual

    # --- its work --------------------------------------------------------------------------------

    async def _decode(self) -> None:
        while True:
            if not self.running:
                self.busy.clear()
            await self.busy.wait()
            await asyncio.sleep(self.token_s)
            await self.moving.wait()
            if self.paused or not self.running:
                continue
            self.progress.made()
            for item in list(self.running):
                running, answers = item
                running.tokens.append((self.label, self.content))
                if len(running.tokens) >= running.longest:
                    self.running.remove(item)
                    answers.put_nowait(self._answer(running))

    def _answer(self, running: Running) -> tuple[str, tuple[Completion, ...]]:
        request, tokens = running.request, running.tokens
        answers = []
        for text in running.texts:
            made = fake_completion(text, request.sampling.max_tokens)
            labels = [label for label, _ in tokens[: len(made.token_ids)]]
            # Of a probe's tokens the logprobs tell whose weights they are.
            logprobs = np.array([content / -100 for _, content in tokens], np.float32)
            logprobs = logprobs[: len(made.token_ids)]
            answers.append(replace(made, versions=spans(labels), logprobs=logprobs))
        self.history.note(
            "wrote",
            request=request.request_id,
            engine=self.name,
            tokens=tokens[:],
            answer=len(self.history.answers),
        )
        self.history.answers.append(tuple(answers))
        return request.request_id, self.history.answers[-1]

    # --- its verbs -------------------------------------------------------------------------------

    def __getattr__(self, verb: str) -> Any:
        if verb == "generate":
            return SimpleNamespace(remote=lambda requests: Stream(self, requests))
        found = getattr(type(self), f"do_{verb}")

        def remote(*arguments: Any) -> Any:
            return asyncio.ensure_future(self.unless_dead(lambda: found(self, *arguments)))

        return SimpleNamespace(remote=remote)

    async def unless_dead(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def moving() -> Any:
            await self.moving.wait()
            done = await work()
            await self.moving.wait()
            return done

        return await unless_dead(self.dead, moving)

    async def do_start(self) -> None:
        await asyncio.sleep(START_S)
        if self.stillborn:
            self._hit("dies")
            self.kill()
            await asyncio.Event().wait()
        self.started = True
        self.progress.made()

    async def do_idle_s(self) -> float:
        return self.progress.idle_s()

    async def do_weight_version(self) -> int:
        return self.label

    async def do_pause(self) -> None:
        assert not self.paused, "paused twice"
        self.paused = True

    async def do_resume(self) -> None:
        self.paused = False
        self.progress.made()

    async def do_close(self) -> None:
        pass

    async def do_begin(self) -> None:
        assert self.paused, "weights while it writes"
        self.loading, self.content = True, MIXED
        if self.refuses:
            self.refuses = False
            self._hit("refuses", transfer=True)
            raise RuntimeError(f"generator {self.replica}: update_weights failed: it refuses")

    def _hit(self, kind: str, transfer: bool = False) -> None:
        """What was done to it earlier takes effect."""
        self.history.note(
            "hit", kind=kind, replica=self.replica, engine=self.name, transfer=transfer
        )

    async def do_bucket(self) -> None:
        await asyncio.sleep(BUCKET_S)

    async def do_finish(self, label: int, content: int) -> None:
        self.loading, self.label = False, label
        self.content = content
        if self.garbles:
            self.garbles, self.content = False, content + 500
            self._hit("garbles", transfer=True)
        self.history.note("loaded", engine=self.name, version=label)


class Stream:
    """Answers of an engine to one call, as Ray hands them over."""

    def __init__(self, engine: Engine, requests: list[Request]) -> None:
        self.engine, self.left = engine, len(requests)
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.items = [(Running(request), self.answers) for request in requests]
        engine.running.extend(self.items)
        engine.busy.set()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if not self.left:
            raise StopAsyncIteration
        answer = await self.engine.unless_dead(self.answers.get)
        self.left -= 1
        told = asyncio.get_running_loop().create_future()
        told.set_result([answer])
        return told

    def cancel(self) -> None:
        for item in self.items:
            if item in self.engine.running:
                self.engine.running.remove(item)


def spans(labels: list[int]) -> tuple[VersionSpan, ...]:
    found: list[VersionSpan] = []
    for at, label in enumerate(labels):
        if found and found[-1].version == label:
            found[-1] = replace(found[-1], end=at + 1)
        else:
            found.append(VersionSpan(version=label, start=at, end=at + 1))
    return tuple(found)


class Group(GeneratorGroup):
    """The real one, whose actors are these engines."""

    def __init__(self, config: GeneratorConfig, history: History, token_s: float) -> None:
        super().__init__(config, "", {})
        self.history, self.token_s = history, token_s
        self.engines: list[Engine] = []
        self.stillborn = 0
        """So many of the next ones die while they start."""
        self.spent = Recoveries("generator.max_recoveries", now)

    def _create(self, replica: int) -> Any:
        engine = Engine(replica, self.history, self.token_s)
        if self.stillborn:
            self.stillborn -= 1
            engine.stillborn = True
        self.history.note("made", engine=engine.name, replica=replica)
        self.engines.append(engine)
        return engine

    def admit(self) -> None:
        super().admit()
        self.history.note("admitted", engines=[epoch.actor.name for epoch in self.epochs])

    def now_at(self, replica: int) -> Engine:
        return cast(Engine, self.epochs[replica].actor)


class Ray:
    """What the group needs of it."""

    @staticmethod
    def kill(actor: Engine, no_restart: bool) -> None:
        actor.history.note("ended", engine=actor.name)
        actor.kill()

    @staticmethod
    def cancel(stream: Stream) -> None:
        stream.cancel()
