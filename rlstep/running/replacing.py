"""Groups for every prompt of an iteration; of those without signal, others in their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing
from typing import TypeAlias

from rlstep.measuring.metrics import has_signal
from rlstep.types import Group, Prompt

Collect: TypeAlias = Callable[[Sequence[Prompt]], AsyncIterator[Group]]
"""A rollout strategy's `collect` in the context of one iteration."""


async def one_each(
    collect: Collect, prompts: Sequence[Prompt], name: str
) -> AsyncGenerator[Group, None]:
    """What `collect` yields, held to one group a prompt.

    Args:
        name: of the strategy, for the message.

    Raises:
        RuntimeError: it yielded a group too many or too few; says of which prompt.
    """
    waited = {prompt.prompt_id: prompt for prompt in prompts}
    async for group in collect(prompts):
        _tick_off(waited, group)
        yield group
    if waited:
        raise RuntimeError(f"rollouts {name} {_told(waited, len(prompts))}")


async def with_signal(
    collect: Collect, prompts: Sequence[Prompt], size: int, replaced: list[Group], name: str
) -> AsyncGenerator[Group, None]:
    """Dynamic sampling of DAPO (arXiv:2503.14476, section 3.2): `size` groups, of which those
    without signal are replaced by the groups of further prompts for as long as there are any.

    For every group without signal (or prompt without a group) the next further prompt is sampled at
    once. Which prompts that are does not depend on what finishes first: always the shortest start
    of `prompts` that has `size` groups with signal, or all. In the latter case the first of those
    without signal fill up the batch.

    Args:
        collect: may leave out prompts as long as others can take their places.
        prompts: the first `size` are sampled from, then the others in their order.
        replaced: takes the groups that are not yielded.
        name: of the strategy, for the message.

    Raises:
        RuntimeError: there are fewer groups than `size` after all.
    """
    further, wanted = iter(prompts[size:]), size
    held: list[Group] = []
    absent: set[str] = set()
    async with aclosing(_Collecting(collect)) as collecting:
        collecting.ask(prompts[:size])
        while collecting.awaited:
            item = await collecting.next()
            if isinstance(item, Group) and has_signal(item):
                wanted -= 1
                if not wanted:  # whoever takes the last group may not come back for more
                    replaced += held
                yield item
                continue
            if isinstance(item, Group):
                held.append(item)
            else:
                absent.add(item.prompt_id)
            if (another := next(further, None)) is not None:
                collecting.ask([another])
    if not wanted:
        return
    if len(held) < wanted:
        raise RuntimeError(f"rollouts {name} {_told(absent, len(prompts))}")
    place = {prompt.prompt_id: i for i, prompt in enumerate(prompts)}
    held.sort(key=lambda group: place[group.prompt.prompt_id])
    replaced += held[wanted:]
    for group in held[:wanted]:
        yield group


class _Collecting:
    """Several collections of a strategy at the same time, as one."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._finished: asyncio.Queue[Group | Prompt | Exception] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.awaited = 0
        """Prompts of which nothing has come yet."""

    def ask(self, prompts: Sequence[Prompt]) -> None:
        self.awaited += len(prompts)
        self._tasks.append(asyncio.create_task(self._run(prompts)))

    async def next(self) -> Group | Prompt:
        """A group, or a prompt that has none; raises what the strategy raises."""
        item = await self._finished.get()
        if isinstance(item, Exception):
            raise item
        self.awaited -= 1
        return item

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, prompts: Sequence[Prompt]) -> None:
        waited = {prompt.prompt_id: prompt for prompt in prompts}
        try:
            async for group in self._collect(prompts):
                _tick_off(waited, group)
                self._finished.put_nowait(group)
        except Exception as error:  # handed to the consumer, which raises it
            self._finished.put_nowait(error)
        else:
            for prompt in waited.values():
                self._finished.put_nowait(prompt)


def _tick_off(waited: dict[str, Prompt], group: Group) -> None:
    if waited.pop(group.prompt.prompt_id, None) is None:
        raise RuntimeError(
            f"a group of prompt {group.prompt.prompt_id!r} came, which was not asked for or has"
            " come before"
        )


def _told(absent: Collection[str], asked: int) -> str:
    return (
        f"yielded no group of {len(absent)} of {asked} prompts, the first {min(absent)!r}; it owes"
        " one of each, which may be without rollouts and says why in its failures"
    )
