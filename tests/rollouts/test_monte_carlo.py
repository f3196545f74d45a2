"""Step values from continuations, counted by hand."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlstep.rollouts import monte_carlo
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.requests import branch, branch_rollouts, group_of, prompt_request
from rlstep.tensors.labels import step_labels
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_completion, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Group, Rollout, Sampling, StepScores

SAMPLING = Sampling(max_tokens=64)
PROMPT = small_prompt("p", answer="10")
RIGHT, WRONG = "2+3=5\n5*2=10\n#10", "2+3=6\n6*2=12\n#12"


async def group(*texts: str, timeouts: Sequence[str] = (), **limits: int) -> Group:
    """Verified rollouts '0/p/0', '0/p/1', ... of one prompt."""
    sampling = Sampling(max_tokens=limits.get("max_tokens", 64))
    context = fake_context(FakeGenerator(never), FakeScorer(timeouts=timeouts))
    request = prompt_request(PROMPT, len(texts), sampling, context)
    answer = tuple(fake_completion(text, sampling.max_tokens) for text in texts)
    made = group_of(PROMPT, request, answer, context)
    return replace(made, rollouts=tuple(await context.scorer.verify(made.rollouts)))


def never(prefix: str, child: int, seed: int) -> str:
    raise AssertionError("nothing is continued here")


def three_of_eight(prefix: str, child: int, seed: int) -> str:
    return "#10" if child < 3 else "#11"


async def label(
    rollouts: Sequence[Rollout], write: Any, *, scorer: FakeScorer | None = None, **fields: Any
) -> tuple[list[StepScores], FakeGenerator]:
    generator = write if isinstance(write, FakeGenerator) else FakeGenerator(write)
    context = fake_context(generator, scorer or FakeScorer())
    made = await MonteCarlo(**fields).label(rollouts, context)
    assert [r.rollout_id for r in made] == [r.rollout_id for r in rollouts]
    scores = [r.step_scores("monte_carlo") for r in made]
    return [s for s in scores if s is not None], generator


def counts(scores: StepScores) -> list[list[int]]:
    """[n, k, truncated] by step."""
    assert scores.n is not None and scores.k is not None and scores.truncated is not None
    return [scores.n.tolist(), scores.k.tolist(), scores.truncated.tolist()]


# --- counts --------------------------------------------------------------------------------------


async def test_three_of_eight():
    rollouts = (await group(WRONG)).rollouts
    (scores,), _ = await label(rollouts, three_of_eight, continuations=8, own_outcome=False)
    # Two steps before the last, 8 continuations of each, 3 of them right; the last step is not
    # continued.
    assert counts(scores) == [[8, 8, 0], [3, 3, 0], [0, 0, 0]]
    assert scores.values.tolist() == [3 / 8, 3 / 8, 0.0]


async def test_a_greedy_continuation_is_drawn_once():
    """Seven more would be the same, and vLLM rejects such a request."""
    greedy = [
        replace(rollout, sampling=replace(SAMPLING, temperature=0.0))
        for rollout in (await group(WRONG)).rollouts
    ]
    (scores,), generator = await label(greedy, three_of_eight, continuations=8, own_outcome=False)
    assert counts(scores) == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert [request.n for request in generator.asked] == [1, 1]


async def test_the_own_outcome_is_one_more_continuation_and_the_last_steps_label():
    rollouts = (await group(RIGHT, WRONG)).rollouts
    (right, wrong), _ = await label(rollouts, three_of_eight, continuations=8)
    # 8 + 1 draws and 3 + 1 right for the right rollout; the last step has its verdict alone.
    assert counts(right) == [[9, 9, 1], [4, 4, 1], [0, 0, 0]]
    assert counts(wrong) == [[9, 9, 1], [3, 3, 0], [0, 0, 0]]
    assert right.values == pytest.approx([4 / 9, 4 / 9, 1.0])
    assert wrong.values == pytest.approx([3 / 9, 3 / 9, 0.0])


async def test_own_outcomes_alone_ask_for_nothing():
    rollouts = (await group(RIGHT, WRONG)).rollouts
    (right, wrong), generator = await label(rollouts, never, fraction=0.0)
    assert generator.asked == []
    assert (counts(right), counts(wrong)) == (
        [[1, 1, 1], [1, 1, 1], [0, 0, 0]],
        [[1, 1, 1], [0, 0, 0], [0, 0, 0]],
    )


async def test_a_truncated_continuation_is_not_correct_and_counted():
    """'#10' is read as correct, but its end token did not fit in: it might have gone on."""
    rollouts = (await group(WRONG, max_tokens=17)).rollouts
    # Step 1 ends at 6 and step 2 at 13 of 17 tokens, so 11 and 4 are left; '#10' and its end
    # token are 4, '5+5=10\n#10' and its end token 11. One token less cuts both.
    fits, _ = await label(rollouts, _longest, continuations=2, own_outcome=False)
    assert counts(fits[0]) == [[2, 2, 0], [2, 2, 0], [0, 0, 0]]
    cut = [replace(r, sampling=Sampling(max_tokens=16)) for r in rollouts]
    (scores,), generator = await label(cut, _longest, continuations=2, own_outcome=False)
    assert [r.sampling.max_tokens for r in generator.asked] == [10, 3]
    assert counts(scores) == [[2, 2, 0], [0, 0, 0], [2, 2, 0]]


def _longest(prefix: str, child: int, seed: int) -> str:
    return "#10" if prefix.count("\n") == 3 else "5+5=10\n#10"


async def test_a_truncated_rollout_counts_itself_as_not_correct():
    rollouts = (await group(RIGHT, max_tokens=16)).rollouts  # 16 bytes: the end token is cut
    assert rollouts[0].outcome and rollouts[0].outcome.value == 0.0  # 10 may begin 100
    (scores,), _ = await label(rollouts, never, fraction=0.0)
    assert counts(scores) == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]


async def test_shared_prefixes_are_asked_once_and_count_for_all():
    rollouts = (await group("2+3=5\n5*2=10\n#10", "2+3=5\n5*2=11\n#11", WRONG)).rollouts
    scores, generator = await label(rollouts, three_of_eight, continuations=8, own_outcome=False)
    # First steps: '2+3=5' stands in two rollouts, '2+3=6' in one; second steps are all different.
    assert len(generator.asked) == 2 + 3
    assert len({r.request_id for r in generator.asked}) == 5
    assert [counts(s)[0] for s in scores] == [[8, 8, 0]] * 3


async def test_the_order_of_answers_changes_nothing():
    rollouts = (await group(RIGHT, WRONG)).rollouts

    def by_seed(prefix: str, child: int, seed: int) -> str:
        return "#10" if (seed + child) % 3 else "#11"

    free, asked = await label(rollouts, by_seed, continuations=8)
    gates = {asked.asked[0].request_id: asyncio.Event()}
    held = FakeGenerator(by_seed, gates=gates)

    class Opening(FakeScorer):
        """Lets the first request finish once the three others are verified."""

        async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
            if len(held.answered) == 3:
                gates[asked.asked[0].request_id].set()
            return await super().verify(rollouts)

    late, _ = await label(rollouts, held, scorer=Opening(), continuations=8)
    assert held.answered[-1] == asked.asked[0].request_id
    assert [counts(s) for s in late] == [counts(s) for s in free]


# --- which steps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("fraction", "asked"), [(0.0, 0), (0.01, 1), (0.5, 5), (1.0, 10)])
async def test_a_fraction_of_the_steps_is_labelled(fraction: float, asked: int):
    texts = [f"{i}+1={i + 1}\n#{i + 1}" for i in range(10)]  # 10 different first steps, 10 last
    rollouts = (await group(*texts)).rollouts
    scores, generator = await label(
        rollouts, three_of_eight, continuations=8, fraction=fraction, own_outcome=False
    )
    assert len(generator.asked) == asked  # rounded up
    labelled = [s.n is not None and s.n.tolist() for s in scores]
    assert labelled.count([8, 0]) == asked and labelled.count([0, 0]) == 10 - asked


async def test_the_choice_is_seeded_by_run_and_iteration():
    texts = [f"{i}+1={i + 1}\n#{i + 1}" for i in range(10)]
    rollouts = (await group(*texts)).rollouts

    async def chosen(iteration: int, seed: int) -> set[str]:
        generator = FakeGenerator(three_of_eight)
        context = fake_context(generator, FakeScorer(), iteration=iteration, seed=seed)
        await MonteCarlo(fraction=0.5).label(rollouts, context)
        return {r.request_id for r in generator.asked}

    first = await chosen(0, 0)
    assert first == await chosen(0, 0)
    assert first != await chosen(1, 0) and first != await chosen(0, 1)


async def test_a_rollout_of_one_step_has_only_its_verdict():
    rollouts = (await group("#10")).rollouts
    (scores,), _ = await label(rollouts, never)
    assert counts(scores) == [[1], [1], [0]]


async def test_a_branch_counts_itself_from_its_last_inherited_step_on():
    """Before it, the branch is its parent, which was chosen for how it went on."""
    parent = (await group(WRONG)).rollouts[0]
    context = fake_context(FakeGenerator(never), FakeScorer())
    origin = branch(parent, 2, 1, "fix", SAMPLING, context)
    made = branch_rollouts(origin, (fake_completion("6-1=5\n#10"),), context)
    verified = await context.scorer.verify(made)
    (scores,), _ = await label(verified, never, fraction=0.0)
    assert len(verified[0].steps) == 4
    assert counts(scores)[:2] == [[0, 1, 1, 1], [0, 1, 1, 1]]


# --- failures ------------------------------------------------------------------------------------


async def test_failures_are_no_zeros(caplog: pytest.LogCaptureFixture):
    rollouts = (await group(RIGHT, WRONG, timeouts=["0/p/1"])).rollouts
    generator = FakeGenerator(three_of_eight, failing={"0/p/0/mc1"})
    scorer = FakeScorer(timeouts={"0/p/0/mc2/0", "0/p/0/mc2/7"})
    (right, unverified), _ = await label(rollouts, generator, scorer=scorer, continuations=8)
    # Step 1: the request failed. Step 2: one right and one wrong continuation have no verdict, so
    # 6 draws with 2 right remain. Each step has the own outcome besides.
    assert counts(right) == [[1, 7, 1], [1, 3, 1], [0, 0, 0]]
    assert "generator_lost" in caplog.text  # not hidden
    # A rollout without a verdict is neither continued nor counted.
    assert counts(unverified) == [[0, 0, 0]] * 3
    assert not any("0/p/1" in r.request_id for r in generator.asked)


async def test_unlabelled_rollouts_give_no_targets():
    rollouts = (await group(RIGHT, timeouts=["0/p/0"])).rollouts
    generator = FakeGenerator(never)
    made = await MonteCarlo().label(rollouts, fake_context(generator, FakeScorer()))
    assert step_labels(made).sequences == ()


async def test_labels_never_look_at_the_oracle():
    """The values are the continuations' outcomes, even where the step is plainly wrong or right."""
    rollouts = (await group(WRONG)).rollouts
    (lucky,), _ = await label(rollouts, lambda *_: "#10", own_outcome=False)
    assert lucky.values.tolist() == [1.0, 1.0, 0.0]
    rollouts = (await group(RIGHT)).rollouts
    (unlucky,), _ = await label(rollouts, lambda *_: "#11", own_outcome=False)
    assert unlucky.values.tolist() == [0.0, 0.0, 0.0]
    source = inspect.getsource(monte_carlo)
    assert "oracle" not in source.lower() and "first_error" not in source


# --- the estimate --------------------------------------------------------------------------------


async def test_converges_to_the_success_rate():
    """A policy that goes right with 0.8 after '2+3=5' and with 0.1 after '2+3=6'."""
    rate = {"2+3=5": 0.8, "2+3=6": 0.1}

    def write(prefix: str, child: int, seed: int) -> str:
        step = prefix.splitlines()[1]
        return "#10" if np.random.default_rng([seed, child]).random() < rate[step] else "#11"

    rollouts = (await group("2+3=5\n#10", "2+3=6\n#12")).rollouts
    scores, _ = await label(rollouts, write, continuations=2000, own_outcome=False)
    # One standard error is sqrt(0.8 * 0.2 / 2000) = 0.009 and sqrt(0.1 * 0.9 / 2000) = 0.007; the
    # seeds are fixed, and 4 of them are 0.036 and 0.027.
    assert scores[0].values[0] == pytest.approx(0.8, abs=0.036)
    assert scores[1].values[0] == pytest.approx(0.1, abs=0.027)
    errors = []
    for continuations in (20, 2000):
        scores, _ = await label(rollouts, write, continuations=continuations, own_outcome=False)
        errors.append(max(abs(scores[0].values[0] - 0.8), abs(scores[1].values[0] - 0.1)))
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"continuations": 0}, r"monte_carlo.continuations is 0; the smallest valid value is 1"),
        ({"fraction": 1.5}, r"monte_carlo.fraction is 1.5; it lies in \[0, 1\]"),
        ({"fraction": float("nan")}, r"monte_carlo.fraction is nan; it lies in \[0, 1\]"),
    ],
)
def test_refuses(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        MonteCarlo(**fields)
