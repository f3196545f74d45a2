"""Many that ask one thing at a time: what is asked in one turn of the loop is one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from rlstep.rollouts.asking import Asking


class Role:
    """Answers backwards, each with its own double; a 13 is where it breaks."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, asked: Sequence[int]) -> AsyncIterator[tuple[int, int]]:
        self.calls.append(list(asked))
        for number in reversed(asked):
            await self.gate.wait()
            if number == 1300:
                raise RuntimeError("broken")
            yield number, 2 * number


async def test_one_turn_of_the_loop_is_one_call_in_the_order_of_asking():
    role = Role()
    asking = Asking(role.answer)
    first = [asking.ask(number) for number in range(1000, 1005)]
    assert await asyncio.gather(*first) == [2 * number for number in range(1000, 1005)]
    second = [asyncio.create_task(later(asking, number)) for number in (1007, 1006)]
    assert await asyncio.gather(*second) == [2014, 2012]
    assert role.calls == [[1000, 1001, 1002, 1003, 1004], [1007, 1006]]
    await asking.close()


async def later(asking: Asking[int, int], number: int) -> int:
    return await asking.ask(number)


async def test_the_same_asked_twice_is_answered_twice():
    role = Role()
    asking = Asking(role.answer)
    one, other = int("1001"), int("1001")  # equal, and two
    assert await asyncio.gather(asking.ask(one), asking.ask(other)) == [2002, 2002]


async def test_who_has_left_before_it_is_sent_is_not_asked_for():
    role = Role()
    asking = Asking(role.answer)
    left, stays = asking.ask(1001), asking.ask(1002)
    left.cancel()
    assert await stays == 2004 and role.calls == [[1002]]
    asking.ask(1003).cancel()
    await asyncio.sleep(0)
    assert role.calls == [[1002]]


async def test_who_leaves_while_it_is_answered_holds_up_nobody():
    role = Role()
    role.gate.clear()
    asking = Asking(role.answer)
    left, stays = asking.ask(1002), asking.ask(1001)
    await asyncio.sleep(0)
    left.cancel()
    role.gate.set()
    assert await stays == 2002


async def test_what_the_role_raises_is_raised_to_those_without_an_answer():
    role = Role()
    asking = Asking(role.answer)
    answered, broken, behind = (asking.ask(number) for number in (1002, 1300, 1001))
    found = await asyncio.gather(behind, broken, answered, return_exceptions=True)
    assert found[0] == 2002 and [str(error) for error in found[1:]] == ["broken", "broken"]
    with pytest.raises(RuntimeError, match="broken"):
        await asking.ask(1300)
    assert await asking.ask(1005) == 2010  # the next one is asked all the same


async def test_nothing_is_left_when_it_is_closed():
    role = Role()
    role.gate.clear()
    asking = Asking(role.answer)
    waiting = asking.ask(1001)
    await asyncio.sleep(0)
    before = len(asyncio.all_tasks())
    await asking.close()
    assert len(asyncio.all_tasks()) == before - 1 and not waiting.done()
