"""Judges that compare with a reference, in both orders."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from rlstep.interfaces import Question
from rlstep.scoring.judges.reference_judge import WORDS, ReferenceJudge, swap_averaged
from rlstep.types import Failure, OutcomeScore, Verdict
from tests.builders import make_prompt, make_rollout
from tests.scoring.judges.judge_kit import Scripted, saying

PROMPT = replace(make_prompt(), meta={"scorer": "reference", "reference": "the reference"})


def test_every_case_of_both_orders():
    # The text stands as A, then as B: it wins both, loses both, or neither can be said.
    wins = {("A", "B"): 1.0, ("B", "A"): 0.0}
    for said in product(WORDS, WORDS):
        assert swap_averaged(*said) == wins.get(said, 0.5)
    lost = Failure(reason="timeout")
    assert swap_averaged(lost, "A") is lost and swap_averaged("A", lost) is lost


def test_swapping_the_texts_turns_the_vote():
    """Asked about the other text, the same judge says the same of the same order."""
    for first, second in product(WORDS, WORDS):
        one, other = swap_averaged(first, second), swap_averaged(second, first)
        assert not isinstance(one, Failure) and not isinstance(other, Failure)
        assert one + other == 1.0


async def test_both_orders_are_asked():
    def better_is_long(question: Question) -> str:
        a, b = question.text.index("11 12 "), question.text.index("the reference")
        return f"Verdict: {'A' if a < b else 'B'}"  # always the completion

    model = Scripted(say=better_is_long)
    [outcome] = await ReferenceJudge(model=model, votes=3).judge(
        [make_rollout("a", [[11, 12]], prompt=PROMPT)], model.ask
    )
    assert isinstance(outcome, OutcomeScore) and outcome.value == 1.0
    assert outcome.verdict is Verdict.CORRECT
    ids = [question.question_id for question in model.asked]
    assert ids == [f"a/judge{vote}{order}" for vote in range(3) for order in "ab"]


async def test_a_judge_of_positions_decides_nothing():
    model = Scripted(say=lambda _: "Verdict: A")
    rollouts = [make_rollout("a", [[11]], prompt=PROMPT)]
    [outcome] = await ReferenceJudge(model=model, votes=5).judge(rollouts, model.ask)
    assert isinstance(outcome, Failure) and outcome.reason == "tie"


async def test_votes_worked_by_hand():
    # Rollout a: won both orders, then a tie, then one order unread: (1 + 1/2) / 2 = 3/4.
    # Rollout b: lost both orders, then two ties: (0 + 1/2 + 1/2) / 3 = 1/3.
    said = ["A", "B", "A", "A", "A", "?", "B", "A", "TIE", "TIE", "B", "B"]
    model = saying(*(f"Verdict: {word}" for word in said))
    rollouts = [make_rollout(name, [[11]], prompt=PROMPT) for name in "ab"]
    a, b = await ReferenceJudge(model=model, votes=3).judge(rollouts, model.ask)
    assert isinstance(a, OutcomeScore) and isinstance(b, OutcomeScore)
    assert (a.value, a.verdict) == (0.75, Verdict.CORRECT)
    assert a.votes is not None and (a.votes.tied, a.votes.unparsable) == (1, 1)
    assert (b.value, b.verdict) == (pytest.approx(1 / 3), Verdict.WRONG)


def test_a_prompt_without_a_reference_is_refused():
    judge = ReferenceJudge(model=saying(), reference="best_of_n")
    with pytest.raises(ValueError, match=r"prompt 'p' has no text under 'best_of_n' in its meta"):
        judge.check(PROMPT)
    with pytest.raises(ValueError, match="no text under 'reference'"):
        ReferenceJudge(model=saying()).check(replace(PROMPT, meta={"reference": " "}))
    ReferenceJudge(model=saying()).check(PROMPT)


def test_it_takes_its_route():
    assert ReferenceJudge(model=saying()).takes(PROMPT)
    assert not ReferenceJudge(model=saying()).takes(replace(PROMPT, meta={"scorer": "judge"}))


def test_bad_fields_are_refused():
    with pytest.raises(ValueError, match=r"judge.votes is 4; the nearest valid value is 3"):
        ReferenceJudge(model=saying(), votes=4)
    with pytest.raises(ValueError, match=r"judge.template lacks '\{answer_b\}', 'TIE'"):
        ReferenceJudge(model=saying(), template="{problem} {answer_a} Verdict: A or B")
