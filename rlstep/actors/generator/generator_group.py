"""The generators, seen from the driver: routing, and lost replicas."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Unpack

import ray
from ray.exceptions import RayError

from rlstep.actors.generator.epochs import Epoch, Over
from rlstep.actors.generator.generator import Serving
from rlstep.actors.generator.replicas import Replicas, stillborn
from rlstep.config import GeneratorConfig
from rlstep.measuring.busy import Busy
from rlstep.rollouts.recoveries import Recoveries
from rlstep.types import Completion, Failure, Request

logger = logging.getLogger(__name__)

Item = tuple[Request, "tuple[Completion, ...] | Failure"]


class GeneratorGroup(Replicas):
    """Every replica of the generator role (implements `interfaces.GenerateRole`).

    A request's replica is fixed by its affinity. A replica that dies, or gets nothing done within
    the deadline, is recreated and synced, once however many streams hear of it (see `Epoch`); what
    it left unanswered is asked again, of its successors, until it is answered. One that dies before
    the first weights came is not: what ended it would end the next one too.

    Args: see `Replicas`.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        model_path: str,
        actor_options: dict[str, Any],
        **serving: Unpack[Serving],
    ) -> None:
        super().__init__(config, model_path, actor_options, **serving)
        self.spent = Recoveries("generator.max_recoveries")
        self.on_recreated: Callable[[], Awaitable[None]] | None = None
        """Set by the weight sync: gives recreated replicas the current weights."""
        self.changing = asyncio.Lock()
        """Held by whoever recreates replicas or sends weights: of one death two may hear, a stream
        and a sync, and only the first to come may act on it."""
        self.busy = Busy()
        """The run's, where there is a run."""
        self._recovering: dict[Epoch, asyncio.Task[None]] = {}
        self._settled = False

    @property
    def recoveries(self) -> int:
        """Since the start."""
        return self.spent.total

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Item]:
        """Answers in the order in which they finish, each request exactly once.

        Raises:
            RuntimeError: a replica was lost, and is not recreated; see `recover`.
        """
        if self._settled:
            raise _closed()
        answers: asyncio.Queue[Item | Exception] = asyncio.Queue()
        shares: dict[int, list[Request]] = {}
        for request in requests:
            affinity = request.affinity or request.request_id
            replica = zlib.crc32(affinity.encode()) % len(self.epochs)
            shares.setdefault(replica, []).append(request)
        streams = [
            asyncio.create_task(self._serve(replica, share, answers))
            for replica, share in shares.items()
        ]
        try:
            with self.busy.of("generator"):
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
        """One replica's share; what one epoch leaves unanswered the next one is asked."""
        pending = {request.request_id: request for request in requests}
        try:
            while pending:
                epoch = await self._admitted(replica)
                try:
                    await self._stream(epoch, pending, answers)
                except Over:
                    continue
                except (RayError, TimeoutError) as error:
                    await self._recovered(epoch, error)
        except Exception as error:  # handed to `generate`, which raises it to the caller
            answers.put_nowait(error)

    async def _admitted(self, replica: int) -> Epoch:
        """The epoch to ask, once there is one that serves."""
        while not self._settled:
            epoch = self.epochs[replica]
            if epoch.serves:
                return epoch
            async with self.changing:
                left = self.epochs[replica] is epoch and not epoch.serves
            if left:  # whoever recreated it has failed, or was stopped
                cause = epoch.failure or RuntimeError("its recovery did not come to an end")
                await self._recovered(epoch, cause)
        raise _closed()

    async def _stream(
        self, epoch: Epoch, pending: dict[str, Request], answers: asyncio.Queue[Item | Exception]
    ) -> None:
        """Ask for all that is pending. Raises: Over: the epoch has come to its end."""
        over = epoch.watched()
        receiving = asyncio.create_task(self._receive(epoch, pending, answers))
        try:
            await asyncio.wait({receiving, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                raise Over
            receiving.result()
        finally:
            epoch.unwatch(over)
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _receive(
        self, epoch: Epoch, pending: dict[str, Request], answers: asyncio.Queue[Item | Exception]
    ) -> None:
        stream = epoch.actor.generate.remote(list(pending.values()))
        try:
            while pending:
                ready = await self._next(epoch, stream, "generate")
                await epoch.verified.wait()
                for request_id, answer in ready:
                    answers.put_nowait((pending.pop(request_id), answer))
        finally:
            if pending:
                ray.cancel(stream)  # the caller left, or the replica is lost

    async def _recovered(self, epoch: Epoch, cause: BaseException) -> None:
        """Wait until another epoch serves.

        The recovery belongs to the group: whoever asked for it first may leave in the middle, and
        others have heard of the same death.
        """
        task = self._recovering.get(epoch)
        if task is None:
            if self._settled:
                raise _closed() from cause
            task = asyncio.create_task(self.recover(epoch, cause))
            self._recovering[epoch] = task
            task.add_done_callback(lambda _: self._recovering.pop(epoch))
        await asyncio.wait({task})
        if task.cancelled():
            raise _closed() from cause
        task.result()

    async def recover(self, epoch: Epoch, cause: BaseException) -> None:
        """Recreate one replica and give it the current weights.

        Args:
            epoch: that did not answer; nothing is done where it is over.

        Raises:
            RuntimeError: more than `max_recoveries` replicas were lost within an hour, or this one
                before its first weights; names the replica and the cause.
        """
        async with self.changing:
            if self.epochs[epoch.replica] is not epoch:
                return  # another stream, or a sync, was here first
            if self.on_recreated is None:
                raise stillborn({epoch.replica: cause}) from cause
            await self.replace({epoch.replica: cause})
            await self.on_recreated()
            self.admit()

    def spend_recovery(self, event: str, cause: BaseException) -> None:
        """Count one recovery.

        Args:
            event: what happened to whom.

        Raises:
            RuntimeError: the budget is used up; says the event and its cause.
        """
        self.spent.spend(self.config.max_recoveries, event, cause)

    async def replace(self, lost: Mapping[int, BaseException]) -> None:
        """Give lost replicas successors, each at the cost of a recovery, and those that do not
        start further ones; they serve once they are synced and admitted.

        Args:
            lost: by replica, how.

        Raises:
            RuntimeError: see `spend_recovery`.
        """
        while lost:
            successors = []
            for replica, cause in lost.items():
                self.spend_recovery(f"generator {replica} was lost", cause)
                logger.warning("generator %d is lost and recreated: %s", replica, cause)
                successors.append(self.succeed(replica))
            lost = await self._begin(successors)

    async def replace_all(self) -> None:
        """Give every replica a successor: an engine that was left in the middle of a sync is none
        any more (vLLM 0.32). One recovery has been counted for all of them."""
        successors = [self.succeed(replica) for replica in range(len(self.epochs))]
        await self.replace(await self._begin(successors))

    async def settle(self) -> None:
        """End what recovers replicas, and recover none any more: the run comes to its end."""
        self._settled = True
        recovering = list(self._recovering.values())
        for task in recovering:
            task.cancel()
        await asyncio.gather(*recovering, return_exceptions=True)

    async def close(self) -> None:
        """See `Replicas.close`; whoever still waits for an answer hears of it."""
        await self.settle()
        await super().close()


def _closed() -> RuntimeError:
    return RuntimeError("the generators are closed")
