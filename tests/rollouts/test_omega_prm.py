"""The tree search: its formulas by hand, what it looks at, and what it may spend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.rollouts.independent import Independent
from rlstep.rollouts.omega_prm import OmegaPrm, TreePolicy
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Group, Rollout, Sampling
from tests.rollouts.label_kit import counts

PROMPT = small_prompt("a", text="a\n", answer="10")
LATE = "1\n2\n6\n7\n#11"  # wrong from the third step on
EARLY = "6\n7\n#11"  # from the first
RIGHT = "1\n2\n3\n#10"


def write(samples: Sequence[str]):
    """The samples; after a '6' nothing is right, and elsewhere every second continuation."""

    def continued(prefix: str, child: int, seed: int) -> str:
        kept = prefix.removeprefix("a\n")
        if not kept:
            return samples[child]
        return "#10" if "6" not in kept and child % 2 else "8\n6\n#11"

    return continued


async def grow(
    *samples: str, failing: Sequence[str] = (), **fields: Any
) -> tuple[Group, FakeGenerator]:
    base = Independent(samples_per_prompt=len(samples), sampling=Sampling(max_tokens=64))
    generator = FakeGenerator(write(samples), failing=failing)
    strategy = OmegaPrm(base=base, **{"continuations": 4, "budget": 64, **fields})
    context = fake_context(generator, FakeScorer())
    (group,) = [group async for group in strategy.collect([PROMPT], context)]
    return group, generator


def labels(rollout: Rollout) -> list[list[int]]:
    scores = rollout.step_scores("monte_carlo")
    assert scores is not None
    return counts(scores)[:2]


def prefixes(generator: FakeGenerator) -> list[str]:
    """What was continued, without the prompt and in the order of asking."""
    texts = [TOKENIZER.decode(r.prefix_ids.tolist()) for r in generator.asked[1:]]
    return [text.removeprefix("a\n") for text in texts]


# --- formulas ------------------------------------------------------------------------------------


def test_q_and_u_by_hand():
    policy = TreePolicy()
    # 0.5^(1 - 0.75) = 0.840896, 0.9^(250 / 500) = 0.948683
    assert policy.exploitation(0.75, 250) == pytest.approx(0.797744, abs=1e-6)
    # 0.125 * sqrt(4) / (1 + 1)
    assert policy.exploration(1, 4) == pytest.approx(0.125)
    assert policy.exploration(0, 0) == 0.0


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2000), st.integers(0, 2000))
def test_likelier_and_shorter_is_never_worse(a: float, b: float, c: int, d: int):
    policy = TreePolicy()
    assert policy.exploitation(max(a, b), min(c, d)) >= policy.exploitation(min(a, b), max(c, d))
    assert policy.exploration(min(c, d), 100) >= policy.exploration(max(c, d), 100)


# --- the search ----------------------------------------------------------------------------------


async def test_one_search_by_hand():
    group, generator = await grow(RIGHT, LATE, budget=8)
    # Of the 5 prefixes of LATE the middle one, '1 2 6', has no success, then '1 2' has 2 of 4.
    assert prefixes(generator) == ["1\n2\n6\n", "1\n2\n"]
    right, late = group.rollouts
    assert labels(late) == [[0, 4, 4, 0, 1], [0, 2, 0, 0, 0]]
    assert labels(right) == [[0, 0, 0, 1], [0, 0, 0, 1]]  # its verdict alone


async def test_wrong_continuations_of_a_found_prefix_are_searched_in_turn():
    group, generator = await grow(RIGHT, LATE, budget=64)
    # '1 2' has two wrong continuations '8 6 #11'. Of the first, '1 2 8 6' is low and '1 2 8' high,
    # with two more. Rates and lengths are equal, and '1 2 8' was not visited: it comes next.
    assert prefixes(generator)[:4] == ["1\n2\n6\n", "1\n2\n", "1\n2\n8\n6\n", "1\n2\n8\n"]
    asked = prefixes(generator)
    assert len(asked) == len(set(asked))
    branches = [r for r in group.rollouts if r.parent is not None]
    assert branches[0].parent == "0/a/1" and branches[0].completion.text == "1\n2\n8\n6\n#11"
    assert labels(branches[0]) == [[0, 0, 4, 4, 1], [0, 0, 2, 0, 0]]
    assert branches[1].parent == branches[0].rollout_id
    assert branches[1].completion.text == "1\n2\n8\n8\n6\n#11"
    assert labels(branches[1]) == [[0, 0, 0, 4, 4, 1], [0, 0, 0, 2, 0, 0]]


async def test_a_prefix_is_counted_at_one_rollout_only():
    group, generator = await grow(RIGHT, LATE, EARLY, LATE, budget=64)
    counted = sum(sum(n[:-1]) for n, _ in map(labels, group.rollouts))
    assert counted == sum(r.n for r in generator.asked[1:])


async def test_the_short_one_first():
    _, generator = await grow(RIGHT, LATE, EARLY, budget=4)
    # Equal rates of the root: 0.9^(8 / 500) of EARLY is more than 0.9^(12 / 500) of LATE.
    assert prefixes(generator) == ["6\n7\n"]


@pytest.mark.parametrize("samples", [(RIGHT, RIGHT), (LATE, EARLY)])
async def test_a_prompt_without_both_outcomes_is_left_alone(samples: tuple[str, ...]):
    group, generator = await grow(*samples)
    assert prefixes(generator) == [] and len(group.rollouts) == 2


@given(st.integers(4, 60), st.integers(1, 4))
def test_the_budget_holds(budget: int, continuations: int):
    _, generator = asyncio.run(grow(RIGHT, LATE, EARLY, budget=budget, continuations=continuations))
    assert sum(r.n for r in generator.asked[1:]) <= budget


async def test_the_same_again():
    first, _ = await grow(RIGHT, LATE, EARLY)
    again, _ = await grow(RIGHT, LATE, EARLY)
    assert [r.rollout_id for r in first.rollouts] == [r.rollout_id for r in again.rollouts]
    assert [labels(r) for r in first.rollouts] == [labels(r) for r in again.rollouts]


async def test_a_failed_prefix_ends_its_search():
    group, generator = await grow(RIGHT, LATE, failing=["0/a/1/mc3"])
    assert prefixes(generator) == ["1\n2\n6\n"]
    assert labels(group.rollouts[1]) == [[0, 0, 0, 0, 1], [0] * 5]


async def test_a_prefix_that_is_looked_at_again_is_continued_again():
    group, generator = await grow(RIGHT, LATE, visits=3, budget=20)
    # As before '1 2 6' and '1 2' with 2 of 4. The first wrong continuation of '1 2' is looked at:
    # '1 2' is continued again, by continuations 5 to 8, then '1 2 8 6' and '1 2 8'.
    assert prefixes(generator) == [
        *["1\n2\n6\n", "1\n2\n", "1\n2\n"],
        *["1\n2\n8\n6\n", "1\n2\n8\n"],
    ]
    first, again = generator.asked[2], generator.asked[3]
    assert again.seed == first.seed + 4 and again.request_id == f"{first.request_id}+4"
    late = group.rollouts[1]
    assert labels(late) == [[0, 8, 4, 0, 1], [0, 4, 0, 0, 0]]
    scores = late.step_scores("monte_carlo")
    assert scores is not None and scores.visits is not None
    assert scores.visits.tolist() == [
        [[0, 4, 4, 0, 1], [0, 4, 0, 0, 0]],
        [[0, 2, 0, 0, 0], [0, 2, 0, 0, 0]],
    ]
    branches = [r for r in group.rollouts if r.parent is not None]
    once = branches[0].step_scores("monte_carlo")
    assert once is not None and once.visits is None  # nothing of it was visited twice


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(4, 60))
def test_no_prefix_is_visited_more_often_and_the_budget_holds(visits: int, budget: int):
    group, generator = asyncio.run(grow(RIGHT, LATE, EARLY, visits=visits, budget=budget))
    asked = prefixes(generator)
    assert max(map(asked.count, asked)) <= visits
    assert sum(r.n for r in generator.asked[1:]) <= budget
    counted = sum(sum(n[:-1]) for n, _ in map(labels, group.rollouts))
    assert counted == sum(r.n for r in generator.asked[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OmegaPrm(continuations=0), "rollouts.continuations is 0; the smallest valid"),
        (lambda: OmegaPrm(visits=0), "rollouts.visits is 0; the smallest valid value is 1"),
        (lambda: OmegaPrm(budget=7), "rollouts.budget is 7; the smallest valid value is 8"),
        (lambda: TreePolicy(alpha=0.0), "tree.alpha is 0.0; it must be above 0"),
        (lambda: TreePolicy(beta=1.5), "tree.beta is 1.5; the largest valid value is 1.0"),
        (lambda: TreePolicy(length=0), "tree.length is 0; the smallest valid value is 1"),
        (lambda: TreePolicy(c_puct=-1.0), "tree.c_puct is -1.0; the smallest valid value is 0.0"),
    ],
)
def test_refuses(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()
