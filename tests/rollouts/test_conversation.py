"""Conversations: what is sampled, what is observed, and how they are gone on with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from rlstep.advantages.process import ProcessAdvantages
from rlstep.environments.guess_number import GuessNumber
from rlstep.environments.plain_turns import PlainTurns
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.asking import Asking
from rlstep.rollouts.conversation import Conversation
from rlstep.rollouts.first_error_search import FirstErrorSearch
from rlstep.rollouts.held_out import sample_greedily
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.rectify import Rectify
from rlstep.steps.newline import NewlineSplitter
from rlstep.steps.turns import Turns
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_config, small_prompt, small_prompts
from rlstep.types import (
    Group,
    History,
    Observed,
    OutcomeScore,
    Prompt,
    Sampling,
    Step,
    Verdict,
)
from tests.environments.awkward import Awkward, OnlyOnce, Undecided

GAME = Conversation(
    environment=GuessNumber(guesses=4),
    samples_per_prompt=2,
    sampling=Sampling(max_tokens=200),
    format=PlainTurns(before="", after="\n"),
)


def game(answer: int = 11, name: str = "p") -> Prompt:
    return small_prompt(name, text="08-15\n", answer=str(answer))


def halving(prefix: str, child: int, seed: int) -> str:
    """Plays by what it reads: prompt, guesses and signs, all in the prefix."""
    lines = prefix.split()
    low, high = map(int, lines[0].split("-"))
    for said, sign in zip(lines[1::2], lines[2::2], strict=True):
        low, high = (low, int(said) - 1) if sign == "<" else (int(said) + 1, high)
    return f"{(low + high) // 2}\n"


async def groups(
    strategy: Conversation, prompts: list[Prompt], write: Any = halving, **fields: Any
) -> list[Group]:
    scorer = FakeScorer(environment=strategy.environment, timeouts=fields.pop("timeouts", ()))
    generator = fields.pop("generator", None) or FakeGenerator(write)
    context = fake_context(generator, scorer, splitter=Turns(), conversing=strategy, **fields)
    found = [group async for group in strategy.collect(prompts, context)]
    assert sorted(set(scorer.left)) == sorted(
        f"{context.scope}/{p.prompt_id}/{i}"
        for p in prompts
        for i in range(strategy.samples_per_prompt)
    )  # every episode was let go of
    return found


async def test_a_game_worked_by_hand():
    # 8-15: 11 is the middle. For 14: 11 >, 13 >, 14.
    [group] = await groups(GAME, [game(14)])
    rollout = group.rollouts[0]
    assert rollout.completion.text == "11\n>\n13\n>\n14\n"
    assert [rollout.step_text(k) for k in range(3)] == ["11\n", "13\n", "14\n"]
    assert [rollout.observation_text(k) for k in range(-1, 3)] == ["", ">\n", ">\n", ""]
    # Three bytes and an end-of-sequence token a turn, two bytes between.
    assert rollout.steps == (Step(start=0, end=4), Step(start=6, end=10), Step(start=12, end=16))
    assert rollout.completion.observed == (Observed(start=4, end=6), Observed(start=10, end=12))
    assert not rollout.completion.logprobs[[4, 5, 10, 11]].any()
    assert [(v.start, v.end) for v in rollout.completion.versions] == [(0, 4), (6, 10), (12, 16)]
    scores = rollout.step_scores("environment")
    assert scores is not None and scores.values.tolist() == [0.0, 0.0, 1.0]
    assert rollout.whole_score("return") == 1.0
    assert rollout.scores["outcome"] == OutcomeScore(
        value=1.0, verdict=Verdict.CORRECT, extracted=""
    )
    assert rollout.completion.finish_reason == "stop"


async def test_one_turn_is_one_completion_bit_by_bit():
    def write(prefix: str, child: int, seed: int) -> str:
        return f"{(seed + child) % 97}\n"

    prompts = small_prompts(3)
    once = Conversation(environment=Awkward(), samples_per_prompt=3, turns=1)
    talked = await groups(once, prompts, write)
    plain = Independent(samples_per_prompt=3)
    context = fake_context(FakeGenerator(write), FakeScorer(), splitter=Turns())
    single = [group async for group in plain.collect(prompts, context)]
    for one, other in zip(talked, single, strict=True):
        for a, b in zip(one.rollouts, other.rollouts, strict=True):
            assert a.completion.token_ids.tolist() == b.completion.token_ids.tolist()
            assert a.completion.logprobs.tolist() == b.completion.logprobs.tolist()
            assert a.completion.text == b.completion.text and a.steps == b.steps
            assert (a.rollout_id, a.seed, a.completion.versions) == (
                *(b.rollout_id, b.seed, b.completion.versions),
            )


async def test_each_turn_is_asked_after_exactly_the_tokens_before_it():
    generator = FakeGenerator(halving)
    [group] = await groups(GAME, [game(14)], generator=generator)
    whole = group.rollouts[0]
    own = [r for r in generator.asked if r.request_id.startswith(whole.rollout_id)]
    assert [r.request_id for r in own] == ["0/p/0", "0/p/0/turn1", "0/p/0/turn2"]
    for k, request in enumerate(own):
        assert request.prefix_ids.tolist() == whole.prefix_ids(k).tolist()
        left = 200 - len(request.prefix_ids) + len(whole.prompt.token_ids)
        assert request.sampling.max_tokens == left
    assert len({r.seed for r in generator.asked}) == len(generator.asked)
    assert {r.affinity for r in own} == {"p"}


@pytest.mark.parametrize(
    ("fields", "turns"),
    [
        ({"sampling": Sampling(max_tokens=10)}, 2),  # the second observation leaves no room
        ({"sampling": Sampling(max_tokens=9)}, 2),  # the second turn is cut
        ({"turn_tokens": 3}, 1),  # the first turn is cut
    ],
)
async def test_what_cuts_a_conversation(fields: dict[str, Any], turns: int):
    [group] = await groups(replace(GAME, **fields), [game(14)])
    for rollout in group.rollouts:
        assert len(rollout.steps) == turns and rollout.completion.truncated
        assert rollout.outcome is not None and rollout.outcome.verdict is Verdict.WRONG
        assert rollout.completion.sampled[-1]  # what nobody answers is left out


async def test_the_last_turn_that_is_allowed_is_whole():
    [group] = await groups(replace(GAME, turns=2), [game(14)])
    for rollout in group.rollouts:
        assert len(rollout.steps) == 2 and not rollout.completion.truncated
        assert rollout.outcome is not None and rollout.outcome.verdict is Verdict.WRONG
        assert rollout.completion.text == "11\n>\n13\n"


async def test_a_failed_episode_touches_no_other():
    first, second = await groups(GAME, [game(14, "a"), game(9, "b")], timeouts={"0/a/0"})
    if first.prompt.prompt_id == "b":
        first, second = second, first
    assert [f.reason for f in first.failures] == ["timeout"]
    assert [r.rollout_id for r in first.rollouts] == ["0/a/1"]
    assert first.rollouts[0].sample_index == 1
    assert not second.failures and len(second.rollouts) == 2


async def test_a_lost_turn_fails_its_conversation_alone():
    generator = FakeGenerator(halving, failing={"0/a/1/turn1"})
    [group] = await groups(GAME, [game(14, "a")], generator=generator)
    assert [f.reason for f in group.failures] == ["generator_lost"]
    assert [r.rollout_id for r in group.rollouts] == ["0/a/0"]


async def test_a_slow_conversation_holds_up_nobody():
    gates = {"0/a/1/turn1": asyncio.Event()}
    strategy = GAME
    generator = FakeGenerator(halving, gates=gates)
    scorer = FakeScorer(environment=strategy.environment)
    context = fake_context(generator, scorer, splitter=Turns(), conversing=strategy)
    arrived = []
    prompts = [game(14, "a"), game(14, "b"), game(9, "c")]
    async for group in strategy.collect(prompts, context):
        arrived.append(group.prompt.prompt_id)
        if sorted(arrived) == ["b", "c"]:  # both are here while 'a' still runs
            gates["0/a/1/turn1"].set()
    assert arrived[-1] == "a"


async def test_who_leaves_early_leaves_no_conversation_behind():
    gates = {"0/a/1/turn1": asyncio.Event()}
    scorer = FakeScorer(environment=GAME.environment)
    context = fake_context(
        FakeGenerator(halving, gates=gates), scorer, splitter=Turns(), conversing=GAME
    )
    stream = GAME.collect([game(14, "a"), game(9, "b")], context)
    assert (await anext(stream)).prompt.prompt_id == "b"
    await stream.aclose()  # type: ignore[attr-defined]
    assert sorted(set(scorer.left)) == ["0/a/0", "0/a/1", "0/b/0", "0/b/1"]


@dataclass
class Leaving(FakeScorer):
    """Notes who is left, and not who is done."""

    walked_out: list[str] = field(default_factory=list)

    def leave(self, history: History) -> None:
        self.walked_out.append(history.episode_id)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({}, []),  # the environment is done
        ({"turns": 2}, ["0/p/0", "0/p/1"]),  # it is not, after the last turn
        ({"sampling": Sampling(max_tokens=10)}, ["0/p/0", "0/p/1"]),  # or where it is cut
    ],
)
async def test_only_who_is_not_done_is_left(fields: dict[str, Any], left: list[str]):
    strategy, scorer = replace(GAME, **fields), Leaving(environment=GAME.environment)
    context = fake_context(FakeGenerator(halving), scorer, splitter=Turns(), conversing=strategy)
    assert [group async for group in strategy.collect([game(14)], context)]
    assert sorted(scorer.walked_out) == left


@pytest.mark.parametrize(("last", "verdict"), [("2+3=5\n#5", "correct"), ("#6", "wrong")])
async def test_where_the_verifier_decides_it_reads_the_last_turn(last: str, verdict: str):
    """And not what was observed, or said before it: both have the right answer here."""

    def write(prefix: str, child: int, seed: int) -> str:
        return last if "2+3=5" in prefix else "2+3=5\n#5"

    strategy = replace(GAME, environment=Undecided(), turns=2)
    [group] = await groups(strategy, [small_prompt("p", answer="5")], write)
    assert [r.outcome and r.outcome.verdict for r in group.rollouts] == [verdict] * 2


# --- going on ------------------------------------------------------------------------------------


def luck(prefix: str, child: int, seed: int) -> str:
    """Guesses by the seed: right or wrong, from wherever it stands."""
    return f"{8 + np.random.default_rng([seed, child]).integers(8)}\n"


def talking(strategy: Any, write: Any = luck) -> tuple[Any, FakeGenerator]:
    generator = FakeGenerator(write)
    scorer = FakeScorer(environment=strategy.conversing.environment)
    return fake_context(generator, scorer, splitter=Turns(), conversing=strategy.conversing), (
        generator
    )


async def test_monte_carlo_goes_on_from_the_middle_of_conversations():
    context, generator = talking(GAME)
    made = [group async for group in GAME.collect([game(14)], context)]
    rollouts = [r for group in made for r in group.rollouts]
    asked = len(generator.asked)
    labelled = await MonteCarlo(continuations=64, own_outcome=False).label(rollouts, context)
    for rollout in labelled:
        scores = rollout.step_scores("monte_carlo")
        assert scores is not None and scores.n is not None
        last = len(rollout.steps) - 1
        for k in range(last):
            # Of 8 numbers one is right: of g guesses that are left one hits in 1 - (7/8)^g.
            assert scores.n[k] == 64
            expected = 1 - (7 / 8) ** (3 - k)
            assert abs(scores.values[k] - expected) < 4 * (expected * (1 - expected) / 64) ** 0.5
    prefixes = {r.prefix_ids.tobytes() for r in generator.asked[asked:]}
    assert all(rollouts[0].prefix_ids(1).tobytes() <= p for p in prefixes)


async def test_a_continuation_takes_over_tokens_rewards_and_the_episode():
    context, generator = talking(GAME, halving)
    [group] = [group async for group in GAME.collect([game(14)], context)]
    parent = group.rollouts[0]
    request = replace(generator.asked[0], request_id=f"{parent.rollout_id}/mc1", n=2, seed=3)
    made = await GAME.go_on(parent, 1, request, Asking(generator.generate).ask, context)
    assert isinstance(made, list) and len(made) == 2
    for index, rollout in enumerate(made):
        assert rollout.rollout_id == f"{parent.rollout_id}/mc1/{index}"
        assert (rollout.parent, rollout.inherited) == (parent.rollout_id, 6)
        assert rollout.completion.token_ids.tolist() == parent.completion.token_ids.tolist()
        assert rollout.completion.text == parent.completion.text
        assert rollout.steps == parent.steps
        assert rollout.completion.observed == parent.completion.observed
        scores, before = rollout.step_scores("environment"), parent.step_scores("environment")
        assert scores is not None and before is not None
        assert scores.values.tolist() == before.values.tolist()
        assert rollout.outcome == parent.outcome
    # The replayed history is the parent's own, tokens and all.
    histories = [h for h in context.scorer.asked if h.episode_id.endswith("/mc1/0")]
    original = [h for h in context.scorer.asked if h.episode_id == parent.rollout_id]
    assert [h.actions for h in histories] == [h.actions for h in original[1:]]
    assert {h.seed for h in histories} == {h.seed for h in original}
    # Siblings share a process with each other; their parent's episode has its own.
    mine = [h for h in context.scorer.asked if "/mc1/" in h.episode_id]
    assert {h.affinity for h in mine} == {parent.rollout_id}
    assert {h.affinity for h in original} == {""}


async def test_step_dpo_over_turns():
    """A wrong game is rectified from before its first hopeless turn; one turn is in the loss."""
    strategy = Rectify(
        base=replace(GAME, samples_per_prompt=6, environment=GuessNumber(guesses=2)),
        source="monte_carlo",
        monte_carlo=MonteCarlo(continuations=8, own_outcome=False),
        threshold=0.2,
        rectifications=24,
    )
    context, _ = talking(strategy)
    made = [group async for group in strategy.collect([game(14)], context)]
    samples = FirstErrorPairs(source="monte_carlo", threshold=0.2).samples(made)
    assert samples.pairs  # type: ignore[union-attr]
    for sequence in samples.sequences:
        trained = sequence.step_index[sequence.loss_mask]
        assert len(set(trained.tolist())) == 1


async def test_a_search_for_the_first_error_over_turns():
    context, _ = talking(GAME)
    made = [group async for group in GAME.collect([game(14)], context)]
    wrong = [r for group in made for r in group.rollouts if r.outcome and not r.outcome.value]
    labelled = await FirstErrorSearch().label(wrong, context)
    assert len(labelled) == len(wrong) > 0
    assert all(r.step_scores("monte_carlo") is not None for r in labelled)


async def test_evaluation_talks_too():
    context, generator = talking(GAME, halving)
    made = await sample_greedily([game(14), game(9, "q")], GAME.sampling, context)
    assert [len(group.rollouts) for group in made] == [1, 1]
    assert {r.sampling.temperature for r in generator.asked} == {0.0}
    assert all(r.outcome and r.outcome.value == 1.0 for g in made for r in g.rollouts)


async def test_rewards_of_turns_reach_their_tokens():
    """Process advantages and pairs over turns; what was observed is not trained."""
    context, _ = talking(replace(GAME, samples_per_prompt=8))
    strategy = replace(GAME, samples_per_prompt=8)
    made = [group async for group in strategy.collect([game(14)], context)]
    samples = ProcessAdvantages(source="environment", without_signal="kept").samples(made)
    by_id = {r.rollout_id: r for group in made for r in group.rollouts}
    assert samples.sequences
    for sequence in samples.sequences:
        rollout = by_id[sequence.sequence_id]
        length = len(rollout.prompt.token_ids)
        assert sequence.loss_mask[length:].tolist() == rollout.completion.sampled.tolist()
    assert OutcomePairs(step_source="environment").samples(made).sequences


# --- the configuration ---------------------------------------------------------------------------


def configured(**fields: Any) -> Any:
    short = replace(fields.pop("rollouts", GAME), sampling=Sampling(max_tokens=64))
    return small_config(**{"rollouts": short, "splitter": Turns(), **fields})


def test_a_conversation_needs_turns_for_steps():
    with pytest.raises(ValueError, match=r"splitter is NewlineSplitter.*nearest valid.*Turns\(\)"):
        configured(splitter=NewlineSplitter())


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"labellers": (MonteCarlo(),)}, "MonteCarlo"),
        ({"labellers": (FirstErrorSearch(),)}, "FirstErrorSearch"),
    ],
)
def test_what_cannot_be_replayed_cannot_be_gone_on_with(fields: dict[str, Any], name: str):
    once = replace(GAME, environment=OnlyOnce())
    configured(rollouts=once)
    with pytest.raises(ValueError, match=f"{name} would go on.*OnlyOnce cannot be replayed"):
        configured(rollouts=once, **fields)


def test_bad_values_are_refused():
    for name, value in (("turns", 0), ("samples_per_prompt", 0), ("turn_tokens", -1)):
        with pytest.raises(ValueError, match=rf"rollouts\.{name} is {value}"):
            replace(GAME, **{name: value})
    with pytest.raises(ValueError, match=r"format\.before and format\.after are both ''"):
        PlainTurns(before="", after="")


def test_scores_of_a_conversation_are_known_to_the_configuration():
    configured(samples=OutcomePairs(step_source="environment"))
    with pytest.raises(ValueError, match="nothing in this run makes"):
        small_config(samples=OutcomePairs(step_source="environment"))


def test_who_wraps_a_conversation_is_one():
    assert Independent().conversing is None and Rectify(base=GAME).conversing is GAME
