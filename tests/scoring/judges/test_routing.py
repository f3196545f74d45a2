"""Routes to judges, and the verifier for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.interfaces import Ask, AskContext, Judge, JudgeModel, PromptSet
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.judges.reference_judge import ReferenceJudge
from rlstep.scoring.judges.routing import Route, RoutedScorer, check_routes
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Failure, OutcomeScore, Prompt, Rollout, Sampling, Verdict
from tests.builders import make_rollout
from tests.scoring.judges.judge_kit import Scripted, ask_context, saying

YES = "Verdict: CORRECT"


@dataclass(frozen=True, kw_only=True)
class Naming(Judge):
    """Its outcome's answer is its name and the rollout's."""

    model: JudgeModel
    name: str
    prompts: frozenset[str]

    def takes(self, prompt: Prompt) -> bool:
        return prompt.prompt_id in self.prompts

    async def judge(self, rollouts: Sequence[Rollout], ask: Ask) -> list[OutcomeScore | Failure]:
        return [
            OutcomeScore(
                value=1.0, verdict=Verdict.CORRECT, extracted=f"{self.name} {r.rollout_id}"
            )
            for r in rollouts
        ]


def rollout(name: str, prompt_id: str, **meta: object) -> Rollout:
    made = make_rollout(name, [[11]], prompt=replace(small_prompt(prompt_id), meta=meta))
    return replace(made, scores={})


def decided_by(rollouts: Sequence[Rollout]) -> list[str]:
    return [r.outcome.extracted if r.outcome is not None else "failed" for r in rollouts]


@given(asked=st.lists(st.sampled_from("pqrs"), max_size=12))
async def test_the_first_that_takes_it_decides_and_the_order_stays(asked: list[str]):
    first = Naming(model=saying(), name="first", prompts=frozenset("pq"))
    second = Naming(model=saying(), name="second", prompts=frozenset("qr"))
    scorer = FakeScorer()
    routed = await RoutedScorer.start(scorer, [first, second], ask_context())
    rollouts = [rollout(f"{i}", prompt_id) for i, prompt_id in enumerate(asked)]
    who = {"p": "first {}", "q": "first {}", "r": "second {}", "s": ""}  # no '#': nothing read
    expected = [who[prompt_id].format(i) for i, prompt_id in enumerate(asked)]
    outcomes = await routed.verify(rollouts)
    assert decided_by(outcomes) == expected
    assert [r.rollout_id for r in outcomes] == [r.rollout_id for r in rollouts]
    assert [r.rollout_id for r in scorer.verified] == [
        str(i) for i, prompt_id in enumerate(asked) if prompt_id == "s"
    ]


async def test_without_judges_all_is_the_verifiers():
    scorer = FakeScorer(prm=lambda r: [0.5])
    routed = await RoutedScorer.start(scorer, [], ask_context())
    rollouts = [rollout("a", "p", scorer="judge")]
    assert await routed.verify(rollouts) == scorer.verified
    [scored] = await routed.score_steps(rollouts)
    assert scored.step_scores("prm") is not None


async def test_the_deciders_work_at_the_same_time():
    asked, answered = asyncio.Event(), asyncio.Event()

    class Waiting(FakeScorer):
        async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
            await asked.wait()  # the judge was asked before the verifier is done
            answered.set()
            return await super().verify(rollouts)

    class Slow(Scripted):
        async def ask(self, questions):
            asked.set()
            await answered.wait()
            return await super().ask(questions)

    judge = OutcomeJudge(model=Slow(say=lambda _: YES))
    routed = await RoutedScorer.start(Waiting(), [judge], ask_context())
    rollouts = [rollout("a", "p"), rollout("b", "q", scorer="judge")]
    async with asyncio.timeout(20):
        assert [r.outcome is not None for r in await routed.verify(rollouts)] == [True, True]


async def test_equal_models_are_opened_once_and_closed_with_it():
    shared, other = Scripted(say=lambda _: YES), saying()
    judges = [
        OutcomeJudge(model=shared),
        ReferenceJudge(model=shared),
        OutcomeJudge(model=other, route=Route(values=("x",))),
    ]
    routed = await RoutedScorer.start(FakeScorer(), judges, ask_context())
    assert shared.opened == other.opened == ["open"]
    await routed.close()
    assert shared.opened == other.opened == ["open", "closed"]


async def test_what_was_opened_is_closed_when_another_cannot_be():
    @dataclass(frozen=True)
    class Broken(JudgeModel):
        @asynccontextmanager
        async def open(self, context: AskContext) -> AsyncIterator[Ask]:
            raise ValueError("no key")
            yield

    good = saying()
    judges = [OutcomeJudge(model=good), OutcomeJudge(model=Broken())]
    with pytest.raises(ValueError, match="no key"):
        await RoutedScorer.start(FakeScorer(), judges, ask_context())
    assert good.opened == ["open", "closed"]


async def test_strategies_and_labellers_meet_the_same_outcomes():
    """A judge decides over samples and over Monte-Carlo continuations alike."""
    judge = OutcomeJudge(model=Scripted(say=lambda q: YES if "good" in q.text else "?"))
    routed = await RoutedScorer.start(FakeScorer(), [judge], ask_context())
    generator = FakeGenerator(lambda prefix, child, seed: "so\ngood" if child == 0 else "so\nbad")
    context = fake_context(generator, routed)  # type: ignore[arg-type]  # a scorer like any other
    prompts = [replace(small_prompt("p"), meta={"scorer": "judge"})]
    strategy = Independent(samples_per_prompt=2, sampling=Sampling(max_tokens=64))
    [group] = [group async for group in strategy.collect(prompts, context)]
    good, bad = group.rollouts
    assert good.outcome is not None and good.outcome.verdict is Verdict.CORRECT
    failure = bad.scores["outcome"]
    assert isinstance(failure, Failure) and failure.reason == "unparsable_judgment"
    [labelled] = await MonteCarlo(continuations=2, own_outcome=False).label([good], context)
    scores = labelled.step_scores("monte_carlo")
    # Of the two continuations one is good; over the other the judge said nothing: 1 of 1.
    assert scores is not None and scores.n is not None and scores.k is not None
    assert (scores.n[0], scores.k[0]) == (1, 1)


# --- what is refused -----------------------------------------------------------------------------


def prompt_set(*prompts: Prompt, evaluation: Sequence[Prompt] = ()) -> PromptSet:
    return PromptSet(train=list(prompts), evaluation=list(evaluation))


def test_a_problem_without_an_answer_needs_a_judge():
    judges = [ReferenceJudge(model=saying())]
    open_ended = small_prompt("essay", answer="")
    compared = replace(open_ended, meta={"scorer": "reference", "reference": "A story."})
    check_routes(prompt_set(small_prompt("sum"), compared), judges, AnswerLine())
    message = r"prompt 'essay' has no reference answer, and none of the 1 judges takes it"
    with pytest.raises(ValueError, match=message):
        check_routes(prompt_set(small_prompt("sum"), open_ended), judges, AnswerLine())
    with pytest.raises(ValueError, match=r"none of the 0 judges takes it \(its meta has \[\]\)"):
        check_routes(prompt_set(small_prompt("sum"), evaluation=[open_ended]), [], AnswerLine())


def test_a_judge_refuses_what_it_cannot_judge():
    judges = [OutcomeJudge(model=saying()), ReferenceJudge(model=saying())]
    for meta, message in (
        ({"scorer": "judge"}, "prompt 'x' has no answer, which judge.template shows"),
        ({"scorer": "reference"}, "prompt 'x' has no text under 'reference'"),
    ):
        prompt = replace(small_prompt("x", answer=""), meta=meta)
        with pytest.raises(ValueError, match=message):
            check_routes(prompt_set(prompt), judges, AnswerLine())
