"""Rectification: where a branch starts, how many there are, and the pairs that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.rectify import Rectify
from rlstep.scoring.rewards.repeated_steps import RepeatedSteps
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Failure, Group, Rollout, Sampling

PROMPTS = [small_prompt(name, text=f"{name}:\n", answer="10") for name in ("a", "b")]
RIGHT = "2+3=5\n5*2=10\n#10"
LATE = "2+3=5\n5*2=11\n#11"  # wrong from the second step on
EARLY = "2+3=6\n6*2=12\n#12"  # from the first
BASE = Independent(samples_per_prompt=4, sampling=Sampling(max_tokens=64))
RIGHT_STEPS = {"2+3=5\n", "5*2=10\n", "5+5=10\n", "#10"}


def write(prefix: str, child: int, seed: int) -> str:
    """From the prompt 'a': right, late, early, late; 'b' is always right. From a step of 'a': the
    same right way twice, another right one, a wrong one."""
    problem, _, kept = prefix.partition(":\n")
    if not kept:
        return RIGHT if problem == "b" else (RIGHT, LATE, EARLY, LATE)[child]
    return ("5*2=10\n#10", "5*2=10\n#10", "5+5=10\n#10", "5*2=11\n#11")[child]


def prm(rollout: Rollout) -> Sequence[float]:
    """Knows which steps are right; 0.5 is not under the threshold."""
    texts = [rollout.step_text(i) for i in range(len(rollout.steps))]
    return [0.5 if text in RIGHT_STEPS else 0.49 for text in texts]


async def collect(
    strategy: Rectify, generator: FakeGenerator | None = None, **scorer: Any
) -> tuple[dict[str, Group], FakeGenerator]:
    generator = generator or FakeGenerator(write)
    context = fake_context(generator, FakeScorer(prm=prm, **scorer))
    groups = {g.prompt.prompt_id: g async for g in strategy.collect(PROMPTS, context)}
    assert set(groups) == {"a", "b"}
    return groups, generator


def branches(group: Group) -> list[Rollout]:
    return [r for r in group.rollouts if r.parent is not None]


def asked_again(generator: FakeGenerator, purpose: str = "fix") -> list[str]:
    return [r.request_id for r in generator.asked if f"/{purpose}" in r.request_id]


async def test_a_branch_starts_right_before_the_first_error():
    groups, generator = await collect(Rectify(base=BASE, max_errors=3))
    # Rollouts 1 and 3 err in step 1 (from 0), rollout 2 in step 0: its branch starts afresh.
    assert asked_again(generator) == ["0/a/1/fix1", "0/a/2/fix0", "0/a/3/fix1"]
    prefixes = [TOKENIZER.decode(r.prefix_ids.tolist()) for r in generator.asked[2:]]
    assert prefixes == ["a:\n2+3=5\n", "a:\n", "a:\n2+3=5\n"]
    made = [r for r in branches(groups["a"]) if r.parent == "0/a/1"]
    assert [r.inherited for r in made] == [6] * 4
    parent = groups["a"].rollouts[1]
    assert all(np.array_equal(r.prefix_ids(1), parent.prefix_ids(1)) for r in made)
    assert [r.outcome.value for r in made if r.outcome] == [1.0, 1.0, 1.0, 0.0]


async def test_at_most_max_errors_a_prompt():
    _, generator = await collect(Rectify(base=BASE, max_errors=1))
    assert asked_again(generator) == ["0/a/1/fix1"]


async def test_right_rollouts_are_left_alone():
    groups, _ = await collect(Rectify(base=BASE))
    assert branches(groups["b"]) == []
    # Only the first two wrong rollouts are scored, and the others are still in their places.
    assert ["prm" in r.scores for r in groups["a"].rollouts[:4]] == [False, True, True, False]
    assert [r.rollout_id for r in groups["a"].rollouts[:4]] == [f"0/a/{i}" for i in range(4)]


async def test_where_no_step_is_under_the_threshold_nothing_is_asked():
    groups, generator = await collect(Rectify(base=BASE, threshold=0.49))
    assert asked_again(generator) == [] and branches(groups["a"]) == []


async def test_monte_carlo_finds_the_error_without_a_prm():
    """From '2+3=5' half of the continuations end right, from any wrong step none does."""

    def hopeful(prefix: str, child: int, seed: int) -> str:
        kept = prefix.partition(":\n")[2]
        if kept and set(kept.splitlines(keepends=True)) <= RIGHT_STEPS:
            return "5*2=10\n#10" if child % 2 else "5*2=11\n#11"
        return "#12" if kept else write(prefix, child, seed)

    strategy = Rectify(
        base=BASE,
        source="monte_carlo",
        max_errors=3,
    )
    groups, generator = await collect(strategy, FakeGenerator(hopeful))
    # Values of LATE: 2/4 after its first step, 0/4 after its second; of EARLY 0/4, 0/4.
    assert asked_again(generator) == ["0/a/1/fix1", "0/a/2/fix0", "0/a/3/fix1"]
    late = groups["a"].rollouts[1].step_scores("monte_carlo")
    # Its own wrong outcome is a continuation of none but the last step.
    assert late is not None and late.n is not None and late.n.tolist() == [4, 4, 1]
    assert late.values.tolist() == [0.5, 0.0, 0.0]
    pairs = FirstErrorPairs(source="monte_carlo").samples([groups["a"]]).pairs
    assert len(pairs) > 0


async def test_pairs_come_of_it():
    groups, _ = await collect(Rectify(base=BASE, max_errors=1))
    samples = FirstErrorPairs().samples([groups["a"], groups["b"]])
    assert (samples.groups, samples.groups_without_signal) == (1, 1)
    # Four branches of rollout 1: two say '5*2=10', one '5+5=10', one is wrong again. One pair for
    # each new text.
    trained = [
        tuple(
            TOKENIZER.decode(s.token_ids[s.loss_mask].tolist())
            for s in (samples.sequences[p.chosen], samples.sequences[p.rejected])
        )
        for p in samples.pairs
    ]
    assert trained == [("5*2=10\n", "5*2=11\n"), ("5+5=10\n", "5*2=11\n")]
    # Prompt 'a:\n' and '2+3=5\n' are 9 tokens; '5*2=1' of the first pair is shared, too: 14.
    assert [p.shared_prefix for p in samples.pairs] == [14, 10]


async def test_failures_are_the_groups():
    generator = FakeGenerator(write, failing={"0/a/1/fix1"})
    groups, _ = await collect(Rectify(base=BASE), generator)
    assert groups["a"].failures == (Failure(reason="generator_lost"),)
    assert {r.parent for r in branches(groups["a"])} == {"0/a/2"}
    assert groups["b"].failures == ()


async def test_unverified_and_unscored_rollouts_are_not_rectified():
    # 0/a/1 has neither a verdict nor scores; then 0/a/2 and 0/a/3 are the two.
    _, generator = await collect(Rectify(base=BASE), timeouts={"0/a/1"})
    assert asked_again(generator) == ["0/a/2/fix0", "0/a/3/fix1"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "prm2"}, r"rollouts.source is 'prm2'; it is one of 'prm', 'monte_carlo'"),
        ({"threshold": 1.5}, r"rollouts.threshold is 1.5; the largest valid value is 1"),
        (
            {"source": "monte_carlo", "monte_carlo": RepeatedSteps()},
            r"rollouts.monte_carlo RepeatedSteps makes 'repeated_steps'; it must be a labeller",
        ),
        ({"rectifications": 0}, r"rollouts.rectifications is 0; the smallest valid value is 1"),
        ({"max_errors": 0}, r"rollouts.max_errors is 0; the smallest valid value is 1"),
    ],
)
def test_refuses(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Rectify(**fields)


def test_its_sampling_is_the_base_strategys():
    assert Rectify(base=BASE).sampling is BASE.sampling
