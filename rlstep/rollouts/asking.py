"""Many that ask the generators one request at a time."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from rlstep.interfaces import GenerateRole
from rlstep.types import Completion, Failure, Request

Asked: TypeAlias = tuple[Completion, ...] | Failure


class Asking:
    """What is asked in one turn of the event loop travels together, in the order of asking.

    So a rollout's prefixes that are asked for from the shortest on find each the one before it in
    the generator's prefix cache. Any number of coroutines may ask at the same time.
    """

    def __init__(self, generator: GenerateRole) -> None:
        self._generator = generator
        self._waiting: dict[str, tuple[Request, asyncio.Future[Asked]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, request: Request) -> asyncio.Future[Asked]:
        """The answer, once it is there; raises what the generators raise."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)  # behind everybody who is about to ask in this turn
        answer = loop.create_future()
        self._waiting[request.request_id] = (request, answer)
        return answer

    async def close(self) -> None:
        """Nothing stays behind where whoever asked has left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(self) -> None:
        asked, self._waiting = self._waiting, {}
        waiting = {name: each for name, each in asked.items() if not each[1].done()}
        if waiting:  # nobody does where all have left in between
            task = asyncio.create_task(self._receive(waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _receive(self, waiting: dict[str, tuple[Request, asyncio.Future[Asked]]]) -> None:
        try:
            requests = [request for request, _ in waiting.values()]
            async for request, answer in self._generator.generate(requests):
                _, future = waiting.pop(request.request_id)
                if not future.done():  # cancelled
                    future.set_result(answer)
        except Exception as error:  # handed to whoever waits
            for _, future in waiting.values():
                if not future.done():
                    future.set_exception(error)
