"""The actors of the generator role: their lives, their verbs, and how long an answer may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from functools import singledispatch
from typing import Any, Unpack

import ray
from ray.exceptions import RayError

from rlstep.actors.generator.diffusion_generator import DiffusionGenerator
from rlstep.actors.generator.epochs import Epoch, GeneratorsLost
from rlstep.actors.generator.generator import (
    GeneratorWorker,
    Serving,
    engine_environment,
    greedy,
)
from rlstep.config import DiffusionGeneratorConfig, GeneratorConfig
from rlstep.reporting.role_logs import note_last_lines, role_environment
from rlstep.rollouts.progress import patiently
from rlstep.types import Completion, Failure, Request, TokenIds

logger = logging.getLogger(__name__)

_CLOSE_S = 60.0
"""Longest wait for engines to end by themselves; then they are ended by force."""


class Replicas:
    """Every replica of the generator role, and what they can be told together.

    No verb tries a recovery: the error of those that do not answer names them.

    Args:
        config: the generators' configuration.
        model_path: a folder or hub id with tokenizer and first weights.
        actor_options: Ray options of each replica (GPUs, placement).
        serving: see `generator.Serving`.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        model_path: str,
        actor_options: dict[str, Any],
        **serving: Unpack[Serving],
    ) -> None:
        self.config = config
        self._serving = serving
        self._model_path = model_path
        self._options = actor_options
        self.epochs: list[Epoch] = []
        """The present one of each replica."""
        self.signs = 0
        """Grows while anything that they were asked gets done."""

    @property
    def actors(self) -> list[Any]:
        return [epoch.actor for epoch in self.epochs]

    async def start(self) -> None:
        """Start every engine.

        Raises:
            RuntimeError: one does not start; names it and the cause, and waits for no other.
        """
        self.epochs = [Epoch(i, self._create(i)) for i in range(self.config.replicas)]

        async def start(epoch: Epoch) -> None:
            if lost := await self._begin([epoch]):
                raise stillborn(lost)

        await asyncio.gather(*map(start, self.epochs))
        self.admit()

    def _create(self, replica: int) -> Any:
        environment = engine_environment(self.config) | role_environment(_role(replica))
        options = {
            "num_cpus": 0,
            "max_concurrency": 1000,
            "runtime_env": {"env_vars": environment},
            **self._options,
        }
        worker = ray.remote(worker_class(self.config)).options(**options)
        return worker.remote(self.config, self._model_path, **self._serving)

    async def _begin(self, epochs: Sequence[Epoch]) -> Mapping[int, BaseException]:
        """Have actors start their engines; gives the replicas that do not, and why."""
        try:
            await self._each("start", epochs)
        except GeneratorsLost as error:
            for epoch in epochs:
                epoch.failure = error.lost.get(epoch.replica)
            return error.lost
        return {}

    def succeed(self, replica: int) -> Epoch:
        """End an epoch, and its actor by force; another one takes its place, yet to be started."""
        lost = self.epochs[replica]
        lost.end()
        ray.kill(lost.actor, no_restart=True)
        self.epochs[replica] = Epoch(replica, self._create(replica))
        return self.epochs[replica]

    def renew(self) -> None:
        """Nothing counts that was written since the last pause: the weights have not been verified,
        and what has begun goes on with what it has. Every replica's requests are asked again."""
        for old in self.epochs:
            old.end()
            self.epochs[old.replica] = new = Epoch(old.replica, old.actor)
            new.paused = old.paused

    def admit(self) -> None:
        """All replicas have the weights that they should: requests may go to them."""
        for epoch in self.epochs:
            epoch.serves = True
            epoch.verified.set()

    async def probe(self, prompt: TokenIds, tokens: int, name: str) -> list[Completion]:
        """Each replica's greedy completion of exactly `tokens` tokens.

        Raises:
            GeneratorsLost: names those that do not answer.
        """
        request = Request(request_id=name, prefix_ids=prompt, n=1, seed=0, sampling=greedy(tokens))

        async def ask(epoch: Epoch) -> Completion:
            stream = epoch.actor.generate.remote([request])
            [(_, answer)] = await self._next(epoch, stream, "probe")
            if isinstance(answer, Failure):
                raise RuntimeError(f"generator {epoch.replica}: the probe failed: {answer.detail}")
            return answer[0]

        return await _all([(epoch, ask(epoch)) for epoch in self.epochs])

    async def pause(self) -> None:
        """Freeze everything that runs, and clear the prefix caches.

        Raises:
            GeneratorsLost: names those that do not answer; the others are paused.
        """
        running = [epoch for epoch in self.epochs if not epoch.paused]
        for epoch in running:
            epoch.paused = True
            epoch.verified.clear()
        await self._each("pause", running)

    async def resume(self) -> None:
        """Raises: GeneratorsLost: names those that do not answer; the others go on."""
        paused = [epoch for epoch in self.epochs if epoch.paused]
        for epoch in paused:  # all of them: who does not answer is replaced
            epoch.paused = False
        await self._each("resume", paused)

    async def versions(self) -> list[int]:
        """The weight version each replica says it serves."""
        return await self._each("weight_version", self.epochs)

    async def close(self) -> None:
        """End the engines and their actors, by force where they do not answer in a minute; of a
        replica that is lost nothing is left to end."""
        try:
            await self._each("close", self.epochs, min(_CLOSE_S, self.config.deadline_s))
        except GeneratorsLost as error:
            logger.warning("before the generators were closed, %s", error)
        finally:
            for epoch in self.epochs:
                epoch.end()
                ray.kill(epoch.actor, no_restart=True)
            self.epochs = []

    async def _next(self, epoch: Epoch, stream: Any, verb: str) -> Any:
        """What a stream gives next, for as long as the engine gets anything done."""

        limit = self.config.deadline_s

        async def idle_s() -> float:
            if epoch.paused:
                return 0.0
            idle = await epoch.actor.idle_s.remote()
            self.signs += idle < limit
            return idle

        async def answer() -> Any:
            found = await (await anext(stream))
            self.signs += 1
            return found

        waited = patiently(answer(), idle_s, every_s=limit, limit_s=limit)
        return await self._told(waited, epoch, verb)

    async def _each(
        self, verb: str, epochs: Sequence[Epoch], deadline_s: float | None = None
    ) -> list[Any]:
        """Call one verb on some replicas at once.

        Raises:
            GeneratorsLost: some do not answer within the deadline, or with an error; names them.
        """

        async def call(epoch: Epoch) -> Any:
            answer = getattr(epoch.actor, verb).remote()
            deadline = deadline_s or self.config.deadline_s
            return await self._told(asyncio.wait_for(answer, deadline), epoch, verb)

        return await _all([(epoch, call(epoch)) for epoch in epochs])

    async def _told(self, answer: Awaitable[Any], epoch: Epoch, verb: str) -> Any:
        """An error names the replica and the verb, and ends with what the role printed last."""
        try:
            return await answer
        except TimeoutError as error:
            silence = str(error) or f"nothing for {self.config.deadline_s:.0f} s"
            late = TimeoutError(f"generator {epoch.replica}: {verb}: {silence}")
            note_last_lines(late, _role(epoch.replica))
            raise late from error
        except RayError as error:
            note_last_lines(error, _role(epoch.replica))
            raise


@singledispatch
def worker_class(config: GeneratorConfig) -> Any:
    """What a replica is: a vLLM engine, for any other kind of configuration what it names."""
    return GeneratorWorker


@worker_class.register
def _(config: DiffusionGeneratorConfig) -> Any:
    return DiffusionGenerator


def _role(replica: int) -> str:
    return f"generator-{replica}"


def stillborn(lost: Mapping[int, BaseException]) -> RuntimeError:
    """The error of replicas that no successor is started for; ends with what they printed last."""
    died = "died before its first answer, so none is started again"
    error = RuntimeError("; ".join(f"generator {i} {died}: {lost[i]}" for i in sorted(lost)))
    for cause in lost.values():
        for note in getattr(cause, "__notes__", ()):
            error.add_note(note)
    return error


async def _all(asked: Sequence[tuple[Epoch, Awaitable[Any]]]) -> list[Any]:
    """The answers of replicas. Raises: GeneratorsLost: once all have answered, or have not."""
    answers = await asyncio.gather(*(answer for _, answer in asked), return_exceptions=True)
    lost: dict[int, BaseException] = {}
    for (epoch, _), answer in zip(asked, answers, strict=True):
        if isinstance(answer, RayError | TimeoutError):
            lost[epoch.replica] = answer
        elif isinstance(answer, BaseException):
            raise answer
    if lost:
        raise GeneratorsLost(lost)
    return answers
