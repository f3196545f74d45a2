"""Many that ask a role one thing at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Asking(Generic[Q, A]):
    """What is asked in one turn of the event loop travels together, in the order of asking.

    So a rollout's prefixes that are asked for from the shortest on find each the one before it in
    the generator's prefix cache, and a hundred turns cost one call. Any number of coroutines may
    ask at the same time.

    Args:
        role: answers many, each as soon as it can, exactly once, beside the very object asked.
    """

    def __init__(self, role: Callable[[Sequence[Q]], AsyncIterator[tuple[Q, A]]]) -> None:
        self._role = role
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, question: Q) -> asyncio.Future[A]:
        """The answer, once it is there; raises what the role raises."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)  # behind everybody who is about to ask in this turn
        answer = loop.create_future()
        self._waiting.append((question, answer))
        return answer

    async def close(self) -> None:
        """Nothing stays behind where whoever asked has left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(self) -> None:
        asked, self._waiting = self._waiting, []
        waiting = [each for each in asked if not each[1].done()]
        if waiting:  # nobody does where all have left in between
            task = asyncio.create_task(self._receive(waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _receive(self, asked: list[tuple[Q, asyncio.Future[A]]]) -> None:
        waiting = {id(question): answer for question, answer in asked}
        try:
            async for question, answer in self._role([question for question, _ in asked]):
                future = waiting.pop(id(question))
                if not future.done():  # cancelled
                    future.set_result(answer)
        except Exception as error:  # handed to whoever waits
            for future in waiting.values():
                if not future.done():
                    future.set_exception(error)
