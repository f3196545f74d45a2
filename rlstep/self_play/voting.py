"""A judge's votes on answers, with a judgment that says what most of them say."""

from __future__ import annotations

from collections.abc import Sequence

from rlstep.interfaces import Ask, Question
from rlstep.plugins import crashed, of_a_role
from rlstep.scoring.judges.judgment_text import read_verdict
from rlstep.scoring.judges.outcome_judge import WORDS, OutcomeJudge
from rlstep.types import Failure, OutcomeScore, Rollout, RolloutScore, Score, Verdict

SOURCE = "judge"
"""The name of its scores."""


class Voting:
    """A judge with its model, as it is asked.

    A rollout's score is a RolloutScore: the share of votes that find it correct, and as detail the
    first judgment that says what the majority says. A tie is a Failure('tie'), and what was cut at
    max_tokens is not judged: Failure('truncated').
    """

    def __init__(self, judge: OutcomeJudge, ask: Ask) -> None:
        self._judge = judge
        self._ask = ask

    async def judged(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts in order with their scores."""
        whole = [rollout for rollout in rollouts if not rollout.completion.truncated]
        said: dict[str, str | Failure] = {}

        async def noting(questions: Sequence[Question]) -> list[str | Failure]:
            answers = await self._ask(questions)
            ids = (question.question_id for question in questions)
            said.update(zip(ids, answers, strict=True))
            return answers

        outcomes: Sequence[OutcomeScore | Failure]
        try:
            outcomes = await self._judge.judge(whole, noting)
        except Exception as error:
            if of_a_role(error):
                raise
            outcomes = [crashed(error, self._judge)] * len(whole)
        scores = {
            rollout.rollout_id: _score(outcome, _judgments(rollout, said))
            for rollout, outcome in zip(whole, outcomes, strict=True)
        }
        cut = Failure(reason="truncated", detail="an answer that was cut is not judged")
        return [r.with_scores(**{SOURCE: scores.get(r.rollout_id, cut)}) for r in rollouts]


def _judgments(rollout: Rollout, said: dict[str, str | Failure]) -> list[str]:
    own = f"{rollout.rollout_id}/judge"
    return [
        answer
        for name, answer in said.items()
        if name.startswith(own) and name[len(own) :].isdigit() and isinstance(answer, str)
    ]


def _score(outcome: OutcomeScore | Failure, judgments: Sequence[str]) -> Score:
    if isinstance(outcome, Failure):
        return outcome
    word = "CORRECT" if outcome.verdict is Verdict.CORRECT else "WRONG"
    agreeing = (text for text in judgments if read_verdict(text, WORDS) == word)
    return RolloutScore(value=outcome.value, detail=next(agreeing))
