"""Where the loop's batches come from: how many are admitted at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from itertools import islice

from rlstep.types import Group


async def stream(
    collect: Callable[[int], AsyncIterator[Group]],
    iterations: range,
    batch_size: int,
    max_policy_lag: int,
) -> AsyncGenerator[tuple[int, list[Group]], None]:
    """Yield (iteration, groups sorted by prompt_id), collecting ahead as far as the lag allows.

    Consumes groups as `collect` finishes them. Waits for `batch_size` of them, whatever batch they
    were admitted with: a slow group holds up nobody. Asking for the next item says that the last
    one has been trained on; that unblocks the admission of another batch. At most
    (max_policy_lag + 1) batches are admitted and not yet consumed: at lag 0 exactly the batch that
    is yielded.

    Args:
        collect: yields the groups of one iteration's prompts as each is complete.
        iterations: which to yield.
        batch_size: groups of one iteration.
        max_policy_lag: how many batches are collected ahead.

    Raises:
        RuntimeError: an iteration came to another number of groups, for which a later batch would
            be waited for without end.
    """
    finished: asyncio.Queue[Group | Exception] = asyncio.Queue()
    admitted: list[asyncio.Task[None]] = []

    async def run(iteration: int) -> None:
        try:
            async for group in _whole(collect(iteration), iteration, batch_size):
                finished.put_nowait(group)
        except Exception as error:  # handed to the consumer, which raises it
            finished.put_nowait(error)

    upcoming = iter(iterations)

    def admit(batches: int) -> None:
        for iteration in islice(upcoming, batches):
            admitted.append(asyncio.create_task(run(iteration)))

    try:
        admit(max_policy_lag + 1)
        for iteration in iterations:
            groups: list[Group] = []
            while len(groups) < batch_size:
                item = await finished.get()
                if isinstance(item, Exception):
                    raise item
                groups.append(item)
            yield iteration, sorted(groups, key=lambda group: group.prompt.prompt_id)
            admit(1)
    finally:
        for task in admitted:
            task.cancel()
        await asyncio.gather(*admitted, return_exceptions=True)


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
