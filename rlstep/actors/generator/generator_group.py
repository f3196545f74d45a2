"""The generators, seen from the driver: routing, lost replicas, pause and resume."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import singledispatch
from typing import Any, Unpack

import ray
from ray.exceptions import RayError

from rlstep.actors.generator.diffusion_generator import DiffusionGenerator
from rlstep.actors.generator.generator import (
    GeneratorWorker,
    Serving,
    engine_environment,
    greedy,
)
from rlstep.config import DiffusionGeneratorConfig, GeneratorConfig
from rlstep.reporting.role_logs import note_last_lines, role_environment
from rlstep.types import Completion, Failure, Request, TokenIds

logger = logging.getLogger(__name__)

Item = tuple[Request, "tuple[Completion, ...] | Failure"]


class GeneratorGroup:
    """Every replica of the generator role (implements `interfaces.GenerateRole`).

    A request's replica is fixed by its affinity. A replica that dies, or does not answer within the
    deadline, is recreated and synced; its unanswered requests are asked once more. One that dies
    before its first answer is not: what ended it would end the next one too.

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
        self.actors: list[Any] = []
        self.recoveries = 0
        self.on_recreated: Callable[[], Awaitable[None]] | None = None
        """Set by the weight sync: gives recreated replicas the current weights."""
        self.changing = asyncio.Lock()
        """Held by whoever recreates replicas or sends weights: of one death two may hear, a stream
        and a sync, and only the first to come may act on it."""
        self._model_path = model_path
        self._options = actor_options

    async def start(self) -> None:
        self.actors = [self._create(i) for i in range(self.config.replicas)]
        await self._begin(range(self.config.replicas))

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

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Item]:
        """Answers in the order in which they finish, each request exactly once."""
        answers: asyncio.Queue[Item | Exception] = asyncio.Queue()
        shares: dict[int, list[Request]] = {}
        for request in requests:
            affinity = request.affinity or request.request_id
            replica = zlib.crc32(affinity.encode()) % len(self.actors)
            shares.setdefault(replica, []).append(request)
        streams = [
            asyncio.create_task(self._serve(replica, share, answers))
            for replica, share in shares.items()
        ]
        try:
            for _ in requests:
                item = await answers.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            for stream in streams:
                stream.cancel()

    async def _serve(
        self, replica: int, requests: list[Request], answers: asyncio.Queue[Item | Exception]
    ) -> None:
        """One replica's share; what a lost replica left unanswered is asked once more."""
        pending = {request.request_id: request for request in requests}
        actor = self.actors[replica]
        try:
            try:
                await self._stream(replica, pending, answers)
            except (RayError, TimeoutError) as error:
                # The actor that was asked: by now another stream may have put a new one there.
                await self.recover(replica, actor, error)
                await self._stream(replica, pending, answers)
        except (RayError, TimeoutError):
            for request in pending.values():
                answers.put_nowait((request, Failure(reason="generator_lost")))
        except Exception as error:  # handed to `generate`, which raises it to the caller
            answers.put_nowait(error)

    async def _stream(
        self,
        replica: int,
        pending: dict[str, Request],
        answers: asyncio.Queue[Item | Exception],
    ) -> None:
        if not pending:
            return
        stream = self.actors[replica].generate.remote(list(pending.values()))
        try:
            while pending:
                reference = await self._within(anext(stream), replica, "generate")
                for request_id, answer in await self._within(reference, replica, "generate"):
                    answers.put_nowait((pending.pop(request_id), answer))
        finally:
            if pending:
                ray.cancel(stream)  # the caller left, or the replica is lost

    async def _within(self, awaitable: Awaitable[Any], replica: int, verb: str) -> Any:
        try:
            return await asyncio.wait_for(awaitable, self.config.deadline_s)
        except TimeoutError as error:
            late = TimeoutError(
                f"generator {replica}: {verb} gave nothing for {self.config.deadline_s:.0f} s"
            )
            note_last_lines(late, _role(replica))
            raise late from error
        except RayError as error:
            note_last_lines(error, _role(replica))
            raise

    async def _each(self, verb: str, replicas: Sequence[int]) -> list[Any]:
        """Call one verb on some replicas at once; the deadline's error names the replica."""
        calls = [self._within(getattr(self.actors[i], verb).remote(), i, verb) for i in replicas]
        return await asyncio.gather(*calls)

    async def recover(self, replica: int, lost: Any, cause: BaseException) -> None:
        """Recreate one replica and give it the current weights.

        Args:
            lost: the actor that did not answer; nothing is done where it was replaced meanwhile.

        Raises:
            RuntimeError: more than `max_recoveries` replicas were lost, or this one before its
                first answer; names the replica and the cause.
        """
        async with self.changing:
            if self.actors[replica] is not lost:
                return  # another stream, or a sync that failed, was here first
            if self.on_recreated is None:
                raise RuntimeError(_stillborn(replica, cause)) from cause
            self.spend_recovery(f"generator {replica} was lost", cause)
            logger.warning("generator %d is lost and recreated: %s", replica, cause)
            await self.recreate([replica])
            await self.on_recreated()

    def spend_recovery(self, event: str, cause: BaseException) -> None:
        """Count one recovery.

        Args:
            event: what happened to whom.

        Raises:
            RuntimeError: the budget is used up; says the event and its cause.
        """
        self.recoveries += 1
        if self.recoveries > self.config.max_recoveries:
            raise RuntimeError(
                f"{event}: {cause}"
                f" (generator.max_recoveries = {self.config.max_recoveries} are used up)"
            ) from cause

    async def recreate(self, replicas: Sequence[int]) -> None:
        """Kill some replicas and start new ones; they serve once they are synced.

        Raises:
            RuntimeError: a new one does not start; names it and the cause.
        """
        for replica in replicas:
            ray.kill(self.actors[replica], no_restart=True)
            self.actors[replica] = self._create(replica)
        await self._begin(replicas)

    async def _begin(self, replicas: Sequence[int]) -> None:
        async def begin(replica: int) -> None:
            try:
                await self._each("start", [replica])
            except (RayError, TimeoutError) as error:
                raise RuntimeError(_stillborn(replica, error)) from error

        await asyncio.gather(*map(begin, replicas))

    async def probe(self, prompt: TokenIds, tokens: int, name: str) -> list[Completion]:
        """Each replica's greedy completion of exactly `tokens` tokens; no recovery is tried."""
        request = Request(request_id=name, prefix_ids=prompt, n=1, seed=0, sampling=greedy(tokens))
        answers = []
        for replica, actor in enumerate(self.actors):
            reference = await self._within(
                anext(actor.generate.remote([request])), replica, "probe"
            )
            [(_, answer)] = await self._within(reference, replica, "probe")
            if isinstance(answer, Failure):
                raise RuntimeError(f"generator {replica}: the probe failed: {answer.detail}")
            answers.append(answer[0])
        return answers

    async def pause(self) -> None:
        """Freeze everything that runs, and clear the prefix caches."""
        await self._each("pause", range(len(self.actors)))

    async def resume(self) -> None:
        await self._each("resume", range(len(self.actors)))

    async def versions(self) -> list[int]:
        """The weight version each replica says it serves."""
        return await self._each("weight_version", range(len(self.actors)))

    async def close(self) -> None:
        """End the engines and their actors; of a replica that is lost nothing is left to end."""
        for replica, actor in enumerate(self.actors):
            try:
                await self._each("close", [replica])
            except (RayError, TimeoutError) as error:
                logger.warning("generator %d was lost before it was closed: %s", replica, error)
            ray.kill(actor, no_restart=True)
        self.actors = []


@singledispatch
def worker_class(config: GeneratorConfig) -> Any:
    """What a replica is: a vLLM engine, for any other kind of configuration what it names."""
    return GeneratorWorker


@worker_class.register
def _(config: DiffusionGeneratorConfig) -> Any:
    return DiffusionGenerator


def _role(replica: int) -> str:
    return f"generator-{replica}"


def _stillborn(replica: int, cause: BaseException) -> str:
    return f"generator {replica} died before its first answer, so none is started again: {cause}"
