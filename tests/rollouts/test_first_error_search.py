"""Binary search for the first wrong step: against the exhaustive scan, and within its bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.pairs.first_error import FirstErrorPairs, first_error
from rlstep.rollouts.first_error_search import FirstErrorSearch, first_low
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.rectify import Rectify
from rlstep.rollouts.stopping import BetaStopping
from rlstep.tensors.labels import LocatedError
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Rollout, Sampling, StepScores
from tests.rollouts.label_kit import RIGHT, WRONG, chain, coins, counts, label, wrong_from

FIXED = BetaStopping(batch=8, limit=8)


def search(lows: Sequence[bool | None], parted: int | None = None) -> tuple[int | None, list[int]]:
    """What is found, and what was looked at."""
    looked: list[int] = []

    async def is_low(index: int) -> bool | None:
        looked.append(index)
        return lows[index]

    return asyncio.run(first_low(len(lows), is_low, parted)), looked


def located(scores: StepScores, threshold: float = 0.5) -> int:
    """Where no label shows an error, the wrong verdict says that it is in the last step."""
    error = first_error(scores, threshold)
    assert scores.n is not None
    return len(scores.n) - 1 if error is None else error


def prefixed(scores: StepScores) -> tuple[np.ndarray, np.ndarray]:
    """n and k with an entry for the prompt, as a view reads them."""
    assert scores.n is not None and scores.k is not None
    return np.append(np.int32(0), scores.n), np.append(np.int32(0), scores.k)


# --- the search ----------------------------------------------------------------------------------


def test_ten_prefixes_by_hand():
    # 0..9: the middle of [0, 9] is 4 (high), of [5, 9] 7 (low), of [5, 7] 6 (high): 7.
    assert search([False] * 7 + [True] * 3) == (7, [4, 7, 6])
    # 4 low, 2 low, 1 low, 0 low: the first of all, after four looks.
    assert search([True] * 10) == (0, [4, 2, 1, 0])
    # 4, 7 and 8 high: nothing but the last is left, which is never looked at.
    assert search([False] * 9 + [True]) == (9, [4, 7, 8])
    assert search([True]) == (0, [])


def test_where_a_solution_was_left_is_looked_at_first():
    # Three are high. 3 is low: found. 3 is high: the middle of [4, 9] is 6 (low), 5 (high): 6.
    assert search([False] * 3 + [True] * 7, parted=3) == (3, [3])
    assert search([False] * 6 + [True] * 4, parted=3) == (6, [3, 6, 5])
    # All but the last are high: nothing is left to look at.
    assert search([False] * 9 + [True], parted=9) == (9, [])


def test_it_ends_where_it_is_told_nothing():
    assert search([False, None, True, True]) == (None, [1])


@given(st.integers(1, 200), st.data())
def test_it_finds_what_a_scan_finds_on_every_monotone_chain(count: int, data: st.DataObject):
    error = data.draw(st.integers(0, count - 1))
    found, looked = search([i >= error for i in range(count)])
    assert found == error
    assert len(looked) == len(set(looked)) <= ceil(log2(count)) and count - 1 not in looked


@given(st.lists(st.booleans(), max_size=60))
def test_elsewhere_it_finds_a_low_prefix_after_a_high_one(lows: list[bool]):
    lows = [*lows, True]
    found, _ = search(lows)
    assert found is not None and lows[found] and (found == 0 or not lows[found - 1])


# --- the labeller --------------------------------------------------------------------------------


async def test_only_what_the_search_looked_at_is_labelled():
    (scores,), generator = await label(
        FirstErrorSearch(stopping=FIXED), [chain("a", 10)], coins(wrong_from(7))
    )
    # Steps 4 and 6 are high, 7 low; the last has the verdict.
    assert counts(scores)[0] == [0, 0, 0, 0, 8, 0, 8, 8, 0, 1]
    assert counts(scores)[1] == [0, 0, 0, 0, 8, 0, 8, 0, 0, 0]
    assert [r.n for r in generator.asked] == [8, 8, 8]
    assert first_error(scores, 0.5) == 7


@settings(max_examples=40)
@given(st.integers(1, 12), st.data(), st.integers(1, 8))
def test_it_agrees_with_every_step_labelled_by_the_same_continuations(
    steps: int, data: st.DataObject, batch: int
):
    """On a chain whose prefixes are clearly high before the error and low after it."""
    error = data.draw(st.integers(0, steps - 1))

    async def both() -> tuple[StepScores, StepScores, int]:
        stopping = BetaStopping(batch=batch, limit=8)
        rollouts, write = [chain("a", steps)], coins(wrong_from(error))
        (found,), asked = await label(FirstErrorSearch(stopping=stopping), rollouts, write)
        every = MonteCarlo(continuations=8, own_outcome=False)
        (scanned,), _ = await label(every, rollouts, write)
        return found, scanned, len({len(r.prefix_ids) for r in asked.asked})

    found, scanned, looked = asyncio.run(both())
    assert located(found) == located(scanned) == error
    assert looked <= ceil(log2(steps))


async def test_the_same_draws_are_counted_the_same_by_every_estimator():
    """Noisy chains: wherever both looked, search and exhaustive labels have equal counts."""
    rollouts = [chain(name, 9) for name in "abcd"]
    write = coins(lambda steps: 0.9 - 0.1 * steps)
    searched, _ = await label(FirstErrorSearch(stopping=FIXED), rollouts, write)
    every, _ = await label(MonteCarlo(continuations=8, own_outcome=False), rollouts, write)
    compared = 0
    for some, each in zip(searched, every, strict=True):
        for step in range(8):
            if counts(some)[0][step]:
                assert [row[step] for row in counts(some)] == [row[step] for row in counts(each)]
                compared += 1
    assert compared >= 4 * 2


async def test_stopping_saves_draws_and_finds_the_same():
    rollouts = [chain(name, 10) for name in "abcd"]
    fixed, all_drawn = await label(FirstErrorSearch(stopping=FIXED), rollouts, coins(wrong_from(6)))
    stopped, fewer = await label(FirstErrorSearch(), rollouts, coins(wrong_from(6)))
    assert [located(s) for s in stopped] == [located(s) for s in fixed] == [6] * 4
    # Batches of 2: after 4 draws that all say the same, 1 - 0.5^5 = 0.97 is over 0.9.
    drawn = [sum(r.n for r in generator.asked) for generator in (all_drawn, fewer)]
    assert drawn == [4 * 4 * 8, 4 * 4 * 4]  # four chains, four looks (4, 7, 6, 5)


async def test_correct_and_unverified_rollouts_are_not_searched():
    right, lost = chain("a", 4, answer=RIGHT), chain("b", 4)
    lost = replace(lost, scores={})
    (first, second), generator = await label(
        FirstErrorSearch(), [right, lost], coins(wrong_from(0))
    )
    assert generator.asked == []
    assert counts(first) == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert counts(second) == [[0] * 4] * 3


async def test_a_truncated_rollout_is_wrong():
    cut = chain("a", 4, answer=RIGHT, max_tokens=12)  # its end token did not fit in
    assert cut.outcome is not None and cut.outcome.value == 1.0
    (scores,), generator = await label(FirstErrorSearch(), [cut], lambda *_: RIGHT)
    # Whether '#10' and its end token fit in after 3, 6 or 9 of 12 tokens: not after the last.
    assert counts(scores) == [[0, 4, 4, 1], [0, 4, 0, 0], [0, 0, 4, 1]]
    assert [r.sampling.max_tokens for r in generator.asked] == [6, 6, 3, 3]


async def test_one_step_needs_no_search():
    (only,), generator = await label(FirstErrorSearch(), [chain("a", 1)], lambda *_: "")
    assert generator.asked == [] and counts(only) == [[1], [0], [0]]


async def test_a_completer_of_its_own_is_asked_for_the_prompt_first():
    """It solves the problem, and then its one greedy continuation of a prefix is the prefix's."""
    labeller = FirstErrorSearch(temperature=0.0)
    (scores,), generator = await label(labeller, [chain("a", 10)], coins(wrong_from(7)))
    assert [len(r.prefix_ids) for r in generator.asked] == [2, 17, 26, 23]  # of 2 + 3 steps tokens
    assert {(r.n, r.sampling.temperature) for r in generator.asked} == {(1, 0.0)}
    assert counts(scores)[0] == [0, 0, 0, 0, 1, 0, 1, 1, 0, 1]
    assert first_error(scores, 0.5) == 7


SOLUTION = [f"a{i}\n" for i in range(7)] + ["b7\n", "b8\n", RIGHT]


def greedily(error: int) -> Callable[[str, int, int], str]:
    """Goes on as `SOLUTION` does, and to a wrong answer from a prefix with `error` in it."""

    def write(prefix: str, child: int, seed: int) -> str:
        done = prefix.count("\n") - 1
        return "".join(SOLUTION[done:-1]) + (WRONG if done > error else RIGHT)

    return write


@pytest.mark.parametrize(
    ("error", "asked", "n", "k"),
    [
        # It leaves the solution behind the seventh step; the eighth is wrong: one continuation.
        (7, [2, 26], [0, 0, 0, 0, 0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
        # The eighth does no harm, so the ninth is looked at, too.
        (8, [2, 26, 29], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1, 0, 0]),
    ],
)
async def test_a_greedy_search_begins_where_the_solution_was_left(
    error: int, asked: list[int], n: list[int], k: list[int]
):
    labeller = FirstErrorSearch(temperature=0.0)
    (scores,), generator = await label(labeller, [chain("a", 10)], greedily(error))
    assert [len(r.prefix_ids) for r in generator.asked] == asked
    assert counts(scores)[:2] == [n, k]
    assert LocatedError().labels(*prefixed(scores))[0].tolist() == [1.0] * error + [0.0] * (
        10 - error
    )


async def test_what_a_completer_does_not_solve_is_not_searched():
    """The policy itself has no such question: its own rollouts were the prompt's continuations."""
    greedy = FirstErrorSearch(temperature=0.0)
    rollouts = [chain("a", 8)]
    (scores,), generator = await label(greedy, rollouts, coins(lambda steps: 0.0))
    assert len(generator.asked) == 1 and counts(scores)[0] == [0] * 7 + [1]
    _, searched = await label(FirstErrorSearch(stopping=FIXED), rollouts, coins(lambda _: 0.0))
    assert len(searched.asked) == 3


async def test_a_share_of_the_wrong_rollouts_is_searched():
    rollouts = [chain(name, 8) for name in "abcdefgh"] + [chain("z", 8, answer=RIGHT)]
    labelled, _ = await label(FirstErrorSearch(fraction=0.3), rollouts, coins(wrong_from(3)))
    searched = [sum(counts(scores)[0]) > 1 for scores in labelled]
    assert sum(searched) == ceil(0.3 * 8) and not searched[-1]
    again, _ = await label(FirstErrorSearch(fraction=0.3), rollouts, coins(wrong_from(3)))
    assert [counts(s) for s in again] == [counts(s) for s in labelled]
    with pytest.raises(ValueError, match=r"first_error_search\.fraction"):
        FirstErrorSearch(fraction=1.5)
    with pytest.raises(ValueError, match=r"first_error_search\.temperature"):
        FirstErrorSearch(temperature=-1.0)


async def test_the_order_of_rollouts_changes_nothing():
    rollouts = [chain(name, 8) for name in "abcd"]
    write = coins(lambda steps: 0.9 - 0.1 * steps)
    forward, _ = await label(FirstErrorSearch(), rollouts, write)
    backward, _ = await label(FirstErrorSearch(), rollouts[::-1], write)
    assert [counts(s) for s in forward] == [counts(s) for s in backward[::-1]]


async def test_a_prefix_without_a_verdict_ends_its_search_and_no_others():
    generator = FakeGenerator(coins(wrong_from(6)), failing={"0/a/0/mc5"})
    (lost, found), _ = await label(
        FirstErrorSearch(stopping=FIXED), [chain("a", 10), chain("b", 10)], generator
    )
    assert counts(lost)[0] == [0] * 9 + [1]
    assert first_error(found, 0.5) == 6


async def test_rectification_searches():
    """The first wrong step of a wrong rollout is sampled again from right before it."""
    prompt = small_prompt("a", text="a\n", answer="10")

    def write(prefix: str, child: int, seed: int) -> str:
        done = prefix.count("\n") - 1
        if not done:
            return "1\n2\n3\n4\n5\n6\n7\n#11"
        return RIGHT if done <= 4 else "#11"  # the fifth step is the wrong one

    strategy = Rectify(
        base=Independent(samples_per_prompt=1, sampling=Sampling(max_tokens=64)),
        source="monte_carlo",
        monte_carlo=FirstErrorSearch(),
    )
    generator = FakeGenerator(write)
    context = fake_context(generator, FakeScorer())
    (group,) = [group async for group in strategy.collect([prompt], context)]
    branches: list[Rollout] = [r for r in group.rollouts if r.parent is not None]
    assert {r.inherited for r in branches} == {group.rollouts[0].steps[3].end}
    assert len(FirstErrorPairs(source="monte_carlo").samples([group]).pairs) == 1


def test_its_fields_are_checked():
    with pytest.raises(ValueError, match=r"stopping.batch is 9; the largest valid value is 8"):
        FirstErrorSearch(stopping=BetaStopping(batch=9))
