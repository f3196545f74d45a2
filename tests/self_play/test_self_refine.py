"""Self-play with a policy whose answers, votes and refinements are scripted."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.advantages.group import GroupAdvantages
from rlstep.config import Config
from rlstep.examples.solutions import Solutions
from rlstep.interfaces import Question, RunStart
from rlstep.losses.dpo import Dpo
from rlstep.losses.grpo import Grpo
from rlstep.pairs.accepted import AcceptedPairs
from rlstep.rollouts.independent import Independent
from rlstep.scoring.answers.constraints_met import ConstraintsMet
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.self_play.refiner_data import RefinerData
from rlstep.self_play.search import BreadthFirst, DepthFirst, TreeSearch
from rlstep.self_play.self_refine import Refiner, SelfRefine
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_config, small_prompt
from rlstep.testing.tokenizer import ByteTokenizer
from rlstep.types import Failure, Group, PairSamples, Sampling
from tests.scoring.judges.judge_kit import Scripted

PROMPT = replace(
    small_prompt("p", text="with sea\n", answer="sea"),
    meta={"problem": "with sea", "constraints": ["with sea"]},
)
VOTES = {"stone": 0, "wind": 1, "rain": 2, "lamp": 3, "sea": 5, "bird": 0}
"""Of five, for each answer; of 'tie' two each way and one that cannot be read."""
REFINED = {
    "stone": ("bird", "wind", "rain"),
    "rain": ("wind", "lamp", "sea"),
    "wind": ("stone", "tie", "rain"),
    "bird": ("bird", "bird", "bird"),
}
JUDGE = "judge {problem}{solution} Verdict: CORRECT or WRONG"
REFINE = "refine {problem}{solution}{judgment}"


def vote(question: Question) -> str:
    number = int(question.question_id[-1])
    [answer] = re.findall(r"<solution-\w+>\n(.*)\n</solution", question.text)
    if answer == "tie":
        return ("Verdict: CORRECT", "Verdict: WRONG", "?", "Verdict: CORRECT", "Verdict: WRONG")[
            number
        ]
    said = "CORRECT" if number >= 5 - VOTES[answer] else "WRONG"
    return f"{answer} by {number}\nVerdict: {said}"


def writing(*samples: str):
    def write(prefix: str, child: int, seed: int) -> str:
        if not prefix.startswith("refine"):
            return samples[child]
        [answer] = re.findall(r"<solution-\w+>\n(.*)\n</solution", prefix)
        return REFINED.get(answer, ("bird",) * 9)[child]

    return write


def strategy(samples: int, search: TreeSearch, **fields: Any) -> SelfRefine:
    return SelfRefine(
        base=Independent(samples_per_prompt=samples, sampling=Sampling(max_tokens=8)),
        judge=OutcomeJudge(model=Scripted(say=vote), votes=5, template=JUDGE),
        refiner=Refiner(question=REFINE, sampling=Sampling(max_tokens=8)),
        search=search,
        **fields,
    )


async def play(
    *samples: str,
    search: TreeSearch = BreadthFirst(),
    failing: Collection[str] = (),
    **fields: Any,
) -> tuple[Group, SelfRefine, FakeGenerator]:
    plan = strategy(len(samples), search, **fields)
    generator = FakeGenerator(writing(*samples), failing=failing)
    context = fake_context(generator, FakeScorer(verifier=ConstraintsMet()))
    [group] = [group async for group in plan.collect([PROMPT], context)]
    return group, plan, generator


def shares(group: Group) -> dict[str, float | None]:
    return {r.rollout_id.removeprefix("0/p/"): r.whole_score("judge") for r in group.rollouts}


def generations(plan: SelfRefine, generator: FakeGenerator) -> int:
    """Refinements, and votes on refinements."""
    model = plan.judge.model
    assert isinstance(model, Scripted)
    refined = sum(r.n for r in generator.asked if r.request_id.endswith("/refine"))
    return refined + sum("/refine" in question.question_id for question in model.asked)


async def test_a_tree_worked_by_hand() -> None:
    group, plan, generator = await play("stone", "sea", "lamp")
    # stone's refinements have 0, 1 and 2 of 5 votes: rain (2) and wind (1) are refined on, and of
    # the next six sea (5 of 5) is the best. sea and lamp were accepted as they are.
    first, rain, wind = "0/refine", "0/refine/2/refine", "0/refine/1/refine"
    assert shares(group) == {
        **{"0": 0.0, "1": 1.0, "2": 0.6},
        **{f"{first}/0": 0.0, f"{first}/1": 0.2, f"{first}/2": 0.4},
        **{f"{rain}/0": 0.2, f"{rain}/1": 0.6, f"{rain}/2": 1.0},
        **{f"{wind}/0": 0.0, f"{wind}/1": None, f"{wind}/2": 0.4},
    }
    parents = {r.rollout_id: r.parent for r in group.rollouts}
    assert parents[f"0/p/{rain}/2"] == f"0/p/{first}/2" and parents[f"0/p/{first}/2"] == "0/p/0"
    assert [r.prompt.prompt_id for r in group.rollouts] == ["p"] * 12
    assert generations(plan, generator) == 9 * (1 + 5)
    # The verifier stands beside, and agrees of 'sea' alone.
    right = [r.completion.text for r in group.rollouts if r.outcome and r.outcome.value]
    assert right == ["sea", "sea"]
    samples = AcceptedPairs().samples([group])
    [pair] = samples.pairs
    assert (pair.chosen_score, pair.rejected_score) == (1.0, 0.0)
    assert samples.sequences[pair.rejected].sequence_id.startswith("0/p/0")


async def test_the_refiner_reads_a_judgment_of_the_majority() -> None:
    _, _, generator = await play("rain")
    [asked] = [r for r in generator.asked if r.request_id.endswith("/refine")]
    # 2 of 5 for: votes 3 and 4 say CORRECT, the first that says WRONG is number 0.
    text = bytes(asked.prefix_ids.tolist()).decode()
    assert "rain by 0\nVerdict: WRONG" in text and "Verdict: CORRECT" not in text
    assert re.search(r"<problem-\w+>\nwith sea\n</problem", text)


async def test_a_tie_is_dropped_and_counted() -> None:
    group, _, generator = await play("tie")
    [rollout] = group.rollouts
    score = rollout.scores["judge"]
    assert isinstance(score, Failure) and score.reason == "tie"
    assert [r.request_id for r in generator.asked] == ["0/p"]  # nothing is refined
    assert AcceptedPairs().samples([group]).pairs == ()


async def test_what_is_cut_off_is_not_judged() -> None:
    group, plan, _ = await play("stone" * 3)
    [rollout] = group.rollouts
    score = rollout.scores["judge"]
    assert isinstance(score, Failure) and score.reason == "truncated"
    assert isinstance(plan.judge.model, Scripted) and not plan.judge.model.asked


async def test_a_refinement_that_fails_is_counted_and_the_search_goes_on() -> None:
    group, _, _ = await play("stone", failing=["0/p/0/refine/2/refine"])
    assert [failure.reason for failure in group.failures] == ["generator_lost"]
    # wind's second refinement is rain, too, whose own lead to sea.
    assert shares(group)["0/refine/1/refine/2/refine/2"] == 1.0


async def test_a_judge_that_raises_is_a_failure() -> None:
    plan = strategy(1, BreadthFirst())
    plan = replace(plan, judge=replace(plan.judge, model=Scripted(say=lambda _: 1 / 0)))  # type: ignore[arg-type]
    context = fake_context(FakeGenerator(writing("stone")), FakeScorer(verifier=ConstraintsMet()))
    [group] = [group async for group in plan.collect([PROMPT], context)]
    score = group.rollouts[0].scores["judge"]
    assert isinstance(score, Failure) and score.reason == "crashed"
    assert "OutcomeJudge: ZeroDivisionError" in score.detail


async def test_only_so_many_originals() -> None:
    every, _, _ = await play("bird", "stone", originals=2)
    first, _, _ = await play("bird", "stone")
    assert {name.split("/")[0] for name in shares(every) if "/" in name} == {"0", "1"}
    assert {name.split("/")[0] for name in shares(first) if "/" in name} == {"0"}


SAMPLES = st.lists(st.sampled_from([*VOTES, "tie"]), min_size=1, max_size=4)
SEARCHES = st.builds(
    lambda kind, branch, keep, depth: kind(branch=branch, keep=keep, depth=depth),
    *(st.sampled_from([BreadthFirst, DepthFirst]), st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
)


@settings(max_examples=25 if settings().derandomize else 200)
@given(SAMPLES, SEARCHES, st.integers(6, 60), st.integers(1, 3))
async def test_laws(samples: list[str], search: TreeSearch, budget: int, originals: int) -> None:
    """Never more generations than the budget; what is chosen is accepted and better than what it
    is refined from; nothing tied stands in a pair."""
    group, plan, generator = await play(*samples, search=search, budget=budget, originals=originals)
    assert generations(plan, generator) <= budget
    made: PairSamples = AcceptedPairs().samples([group])
    for pair in made.pairs:
        assert pair.chosen_score > 0.5 and pair.chosen_score > pair.rejected_score
    tied = {r.rollout_id for r in group.rollouts if r.completion.text == "tie"}
    assert not tied & {s.sequence_id.partition("[")[0] for s in made.sequences}


async def test_a_budget_of_one_refinement_makes_one() -> None:
    group, plan, generator = await play("stone", budget=11)
    assert len(group.rollouts) == 2 and generations(plan, generator) == 6


# --- what the judge and the refiner are trained on -----------------------------------------------


async def test_refiner_data(tmp_path: Path) -> None:
    group, plan, _ = await play("stone")
    start = RunStart(name="r", folder=tmp_path, config={}, iterations=1)
    sink = RefinerData(of=plan).open(start)
    for _ in range(2):  # what happens again after a resume is not there twice
        sink.iteration({"iteration": 1}, [group])
    sink.iteration({"iteration": 1, "eval/accuracy": 1.0}, [])  # an evaluation has no groups
    file = tmp_path / "refiner" / "iteration-000001.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    # Of ten judged answers one is a tie; accepted are lamp (0.6) and sea (1.0), both of rain.
    assert [row["kind"] for row in rows].count("judge") == 9
    refinements = [row for row in rows if row["kind"] == "refine"]
    assert [(row["solution"], row["votes"]) for row in refinements] == [("lamp", 0.6), ("sea", 1.0)]
    for row in refinements:
        assert row["problem"].startswith("refine <problem-") and "\nrain\n" in row["problem"]
        assert "rain by 0\nVerdict: WRONG" in row["problem"]
    [stone] = [row for row in rows if "\nstone\n" in row["problem"] and row["votes"] == 0.0][:1]
    assert stone["problem"].startswith("judge <problem-")
    assert stone["solution"] == "stone by 0\nVerdict: WRONG"
    [samples] = Solutions(path=str(file)).batches(ByteTokenizer(), 0)
    assert len(samples.sequences) == 11  # `rlstep sft` reads it as it is


# --- what is refused -----------------------------------------------------------------------------


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rollouts\.originals is 0; the smallest valid"):
        SelfRefine(originals=0)
    with pytest.raises(ValueError, match=r"rollouts\.budget is 5; the smallest valid value is 6"):
        SelfRefine(budget=5)  # a refinement and five votes
    with pytest.raises(ValueError, match=r"refiner\.question lacks \{judgment\}"):
        Refiner(question="{problem} {solution}")


def test_it_is_a_run_of_pairs_and_none_of_a_policy_gradient() -> None:
    def config(**fields: Any) -> Config:
        base = Independent(samples_per_prompt=2, sampling=Sampling(max_tokens=64))
        return small_config(rollouts=SelfRefine(base=base), **fields)

    assert config(samples=AcceptedPairs(), loss=Dpo()).rollouts.sources == {"judge"}
    with pytest.raises(ValueError, match="SelfRefine samples under other prompts"):
        config(samples=GroupAdvantages(), loss=Grpo())
    with pytest.raises(ValueError, match="AcceptedPairs reads the scores"):
        small_config(samples=AcceptedPairs(), loss=Dpo())


def test_the_defaults_are_the_papers() -> None:
    plan = SelfRefine()
    assert (plan.base.samples_per_prompt, plan.sampling.temperature) == (5, 0.9)
    assert (plan.sampling.top_p, plan.judge.votes, plan.budget) == (0.9, 5, 1000)
    assert (plan.search.branch, plan.search.keep, plan.search.depth) == (3, 2, 3)
    assert isinstance(plan.search, BreadthFirst) and plan.search.above == 0.5
