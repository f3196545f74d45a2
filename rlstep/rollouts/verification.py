"""Groups on their way to an outcome: many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from rlstep.interfaces import RolloutContext
from rlstep.rollouts.requests import with_outcomes
from rlstep.types import Group


async def verified(
    groups: AsyncIterator[Group], context: RolloutContext
) -> AsyncGenerator[Group, None]:
    """The groups with their outcomes, each as soon as it is decided.

    A judge takes seconds where a verifier takes milliseconds, so all groups that have come in are
    decided at the same time. What `groups` or the scorer raises is raised here.
    """
    decided: asyncio.Queue[Group | Exception | None] = asyncio.Queue()
    deciding: list[asyncio.Task[None]] = []

    async def decide(group: Group) -> None:
        try:
            rollouts = tuple(await with_outcomes(group.rollouts, context))
            decided.put_nowait(replace(group, rollouts=rollouts))
        except Exception as error:  # handed to the consumer, which raises it
            decided.put_nowait(error)

    async def admit() -> None:
        try:
            async for group in groups:
                deciding.append(asyncio.create_task(decide(group)))
            await asyncio.gather(*deciding)
            decided.put_nowait(None)
        except Exception as error:  # the same
            decided.put_nowait(error)

    admitting = asyncio.create_task(admit())
    try:
        while (item := await decided.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        admitting.cancel()
        await asyncio.gather(admitting, return_exceptions=True)
        for task in deciding:
            task.cancel()
        await asyncio.gather(*deciding, return_exceptions=True)
