"""Which prompts an iteration takes, and how far collection runs ahead of training."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.curriculum.shuffled import batch_of_prompts
from rlstep.running.backlog import Backlog
from rlstep.running.stream import stream
from rlstep.testing.small import small_prompt
from rlstep.types import Group

sizes = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def group(name: str) -> Group:
    return Group(prompt=small_prompt(name), rollouts=())


def names(groups: list[Group]) -> list[str]:
    return [g.prompt.prompt_id for g in groups]


class Collector:
    """`collect` of a test: iteration i has the groups 'i.0', 'i.1', ...; a gate holds one back."""

    def __init__(self, size: int, gates: dict[str, asyncio.Event] | None = None) -> None:
        self.size, self.gates = size, gates or {}
        self.started: list[int] = []
        self.finished: list[str] = []
        self.cancelled: list[int] = []
        self.progress = asyncio.Condition()

    async def __call__(self, iteration: int) -> AsyncIterator[Group]:
        self.started.append(iteration)
        waiting = [f"{iteration}.{i}" for i in range(self.size)]
        try:
            for name in sorted(waiting, key=lambda name: name in self.gates):  # overtaken
                if name in self.gates:
                    await self.gates[name].wait()
                async with self.progress:
                    self.finished.append(name)
                    self.progress.notify_all()
                yield group(name)
        except asyncio.CancelledError:
            self.cancelled.append(iteration)
            raise

    async def until_finished(self, name: str) -> None:
        async with self.progress:
            await self.progress.wait_for(lambda: name in self.finished)


# --- prompts -------------------------------------------------------------------------------------


@given(sizes, st.integers(0, 5), st.integers(0, 3))
def test_every_prompt_once_an_epoch(numbers: tuple[int, int], epoch: int, seed: int):
    total, size = numbers
    prompts = [small_prompt(str(i)) for i in range(total)]
    parts = ceil(total / size)
    batches = [batch_of_prompts(prompts, epoch * parts + part, size, seed) for part in range(parts)]
    for batch in batches:  # ids and seeds are named after the prompt: never twice in one batch
        assert len({p.prompt_id for p in batch}) == size
    counts = Counter(p.prompt_id for batch in batches for p in batch)
    assert set(counts) == {str(i) for i in range(total)}
    # Only the short last part is filled up: parts * size - total prompts come a second time.
    assert sorted(counts.values()) == [1] * (2 * total - parts * size) + [2] * (
        parts * size - total
    )


@given(sizes, st.integers(0, 20), st.integers(0, 3))
def test_batch_is_a_function_of_the_iteration(numbers: tuple[int, int], iteration: int, seed: int):
    total, size = numbers
    prompts = [small_prompt(str(i)) for i in range(total)]
    again = batch_of_prompts(prompts, iteration, size, seed)
    batch_of_prompts(prompts, 0, size, seed)  # asking for another one changes nothing
    assert batch_of_prompts(prompts, iteration, size, seed) == again


def test_epochs_and_seeds_shuffle_anew():
    prompts = [small_prompt(str(i)) for i in range(32)]
    first, second, other_seed = (
        batch_of_prompts(prompts, 0, 32, 0),
        batch_of_prompts(prompts, 1, 32, 0),
        batch_of_prompts(prompts, 0, 32, 1),
    )
    assert first != second and first != other_seed


# --- lag 0 ---------------------------------------------------------------------------------------


async def test_lag_0_admits_exactly_one_batch():
    collect = Collector(2)
    async with aclosing(stream(collect, range(3), 2, 0, Backlog())) as batches:
        async for iteration, _ in batches:
            assert collect.started == list(range(iteration + 1))
            for _ in range(5):  # whatever could run during training has its turn
                await asyncio.sleep(0)
            assert collect.started == list(range(iteration + 1))
    assert collect.started == [0, 1, 2]


@pytest.mark.parametrize("slow", ["0.0", "0.1", "0.2"])
async def test_lag_0_order_does_not_depend_on_who_finishes_first(slow: str):
    gates = {slow: asyncio.Event()}
    collect = Collector(3, gates)
    async with aclosing(stream(collect, range(1), 3, 0, Backlog())) as batches:
        batch = asyncio.ensure_future(anext(batches))
        others = [name for name in ("0.0", "0.1", "0.2") if name != slow]
        await collect.until_finished(others[-1])
        assert not batch.done()
        gates[slow].set()
        iteration, groups = await batch
    assert collect.finished[-1] == slow
    assert (iteration, names(groups)) == (0, ["0.0", "0.1", "0.2"])


async def test_starts_at_the_first_iteration_of_the_range():
    collect = Collector(1)
    done = [(i, names(groups)) async for i, groups in stream(collect, range(4, 6), 1, 0, Backlog())]
    assert done == [(4, ["4.0"]), (5, ["5.0"])]


# --- lag n ---------------------------------------------------------------------------------------


async def test_lag_2_generates_later_batches_while_the_first_is_trained():
    collect = Collector(2)
    async with aclosing(stream(collect, range(9), 2, 2, Backlog())) as batches:
        await anext(batches)  # "training" goes on until the next is asked for
        await collect.until_finished("2.1")
        assert collect.started == [0, 1, 2]  # 3 = lag + 1 batches, and no more
        await anext(batches)
        await collect.until_finished("3.1")
        assert collect.started == [0, 1, 2, 3]


async def test_a_slow_group_holds_up_nobody():
    gates = {"0.0": asyncio.Event()}
    collect = Collector(2, gates)
    async with aclosing(stream(collect, range(3), 2, 1, Backlog())) as batches:
        # 0.0 hangs. With 2 batches of 2 admitted, 0.1 and 1.0 make the first batch.
        assert names((await anext(batches))[1]) == ["0.1", "1.0"]
        # Batch 2 is admitted: 1.1 and 2.0 are the second.
        assert names((await anext(batches))[1]) == ["1.1", "2.0"]
        gates["0.0"].set()
        assert names((await anext(batches))[1]) == ["0.0", "2.1"]
    assert sorted(collect.finished) == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]


@given(st.integers(0, 3), st.integers(1, 4), st.integers(0, 6))
def test_every_group_comes_exactly_once(lag: int, size: int, iterations: int):
    async def everything() -> list[str]:
        batches = stream(Collector(size), range(iterations), size, lag, Backlog())
        return [name async for _, groups in batches for name in names(groups)]

    wanted = [f"{i}.{j}" for i in range(iterations) for j in range(size)]
    assert sorted(asyncio.run(everything())) == sorted(wanted)


# --- errors and the end --------------------------------------------------------------------------


async def test_an_error_in_collect_reaches_the_consumer():
    async def collect(iteration: int) -> AsyncIterator[Group]:
        yield group(f"{iteration}.0")
        if iteration == 1:
            raise RuntimeError("generator 0 is lost")

    batches = stream(collect, range(3), 1, 1, Backlog())
    with pytest.raises(RuntimeError, match="generator 0 is lost"):
        async for _ in batches:
            pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("size", [1, 3])
async def test_fewer_or_more_groups_than_prompts_are_not_waited_for(size: int, lag: int):
    batches = stream(Collector(size), range(3), 2, lag, Backlog())
    with pytest.raises(RuntimeError, match=rf"iteration . came to {size} groups, and has 2 prompt"):
        async for _ in batches:
            pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_leaves_no_task():
    collect = Collector(2, {"0.1": asyncio.Event(), "1.0": asyncio.Event()})
    async with aclosing(stream(collect, range(3), 2, 1, Backlog())) as batches:
        assert names((await anext(batches))[1]) == ["0.0", "1.1"]
    assert collect.cancelled == [0, 1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_a_waiting_consumer_leaves_no_task():
    collect = Collector(2, {"0.1": asyncio.Event()})

    async def consume() -> None:
        async with aclosing(stream(collect, range(3), 2, 0, Backlog())) as batches:
            async for _ in batches:
                pass

    consumer = asyncio.create_task(consume())
    await collect.until_finished("0.0")
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert collect.cancelled == [0]
    assert asyncio.all_tasks() == {asyncio.current_task()}
