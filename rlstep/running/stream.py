"""Where the loop's batches come from: how many are admitted at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from rlstep.running.backlog import Backlog
from rlstep.types import Group


async def stream(
    collect: Callable[[int], AsyncIterator[Group]],
    iterations: range,
    batch_size: int,
    max_policy_lag: int,
    backlog: Backlog,
) -> AsyncGenerator[tuple[int, list[Group]], None]:
    """Yield (iteration, groups sorted by prompt_id), collecting ahead as far as the lag allows.

    Consumes groups as `collect` finishes them. Waits for `batch_size` of them, whatever batch they
    were admitted with: a slow group holds up nobody. Asking for the next item says that the last
    one has been trained on; that unblocks the admission of another batch. At most
    (max_policy_lag + 1) batches are admitted and not yet consumed: at lag 0 exactly the batch that
    is yielded.

    Args:
        collect: yields the groups of one iteration's prompts as each is complete, of an iteration
            in the backlog those that are missing.
        iterations: which to yield.
        batch_size: groups of one iteration.
        max_policy_lag: how many batches are collected ahead.
        backlog: what an earlier life of the run left; what is admitted and finished is noted there.

    Raises:
        RuntimeError: an iteration came to another number of groups, for which a later batch would
            be waited for without end.
    """
    async with aclosing(_Collecting(collect, backlog)) as collecting:
        collecting.go_on()
        backlog.frontier = max(backlog.frontier, iterations.start)
        for iteration in iterations:
            until = min(iteration + max_policy_lag + 1, iterations.stop)
            while backlog.frontier < until:
                collecting.start(backlog.frontier, batch_size)
                backlog.frontier += 1
            groups = [await collecting.next() for _ in range(batch_size)]
            yield iteration, sorted(groups, key=lambda group: group.prompt.prompt_id)


class _Collecting:
    """The collections of several iterations at the same time, as one."""

    def __init__(self, collect: Callable[[int], AsyncIterator[Group]], backlog: Backlog) -> None:
        self._collect, self._backlog = collect, backlog
        self._finished: asyncio.Queue[Group | Exception] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    def go_on(self) -> None:
        """With what the backlog has, and with what is missing there."""
        for _, group in self._backlog.finished:
            self._finished.put_nowait(group)
        for iteration, its in sorted(self._backlog.admitted.items()):
            if its.missing:
                self.start(iteration, its.missing)

    def start(self, iteration: int, owed: int) -> None:
        groups = self._collect(iteration)  # here, so that a checkpoint has what is to be sampled
        self._tasks.append(asyncio.create_task(self._run(iteration, groups, owed)))

    async def next(self) -> Group:
        item = await self._finished.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, iteration: int, groups: AsyncIterator[Group], owed: int) -> None:
        try:
            async for group in _whole(groups, iteration, owed):
                self._backlog.finish(iteration, group)
                self._finished.put_nowait(group)
        except Exception as error:  # handed to the consumer, which raises it
            self._finished.put_nowait(error)


async def _whole(
    groups: AsyncIterator[Group], iteration: int, number: int
) -> AsyncGenerator[Group, None]:
    """The groups of an iteration, which raises at its end where they are not so many."""
    seen = 0
    async for group in groups:
        seen += 1
        yield group
    if seen != number:
        raise RuntimeError(f"iteration {iteration} came to {seen} groups, and has {number} prompts")
