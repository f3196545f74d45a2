"""A verifier for each part of a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from rlstep.interfaces import Verifier
from rlstep.scoring.answers.by_task import ByTask, VerifierOf
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tasks.logic import ANSWER_LINE
from rlstep.testing.roles import fake_completion
from rlstep.types import OutcomeScore, Prompt, Rollout, Step, Verdict
from tests.builders import make_prompt, make_rollout
from tests.scoring.processes.patient_pool import PatientPool


@dataclass(frozen=True, kw_only=True)
class ReadsUnit(Verifier):
    def check(self, deadline_s: float) -> None:
        if deadline_s < 1:
            raise ValueError("reads_unit needs a second")

    def check_prompt(self, prompt: Prompt) -> None:
        if "unit" not in prompt.meta:
            raise ValueError(f"prompt {prompt.prompt_id!r} has no unit")

    def verify(self, text: str, answer: str, row: Mapping[str, Any]) -> OutcomeScore:
        right = text == f"{answer} {row['unit']}"
        verdict = Verdict.CORRECT if right else Verdict.WRONG
        return OutcomeScore(value=float(right), verdict=verdict, extracted=text)


BOTH = ByTask(
    verifiers=(
        VerifierOf(task="arithmetic", verifier=AnswerLine()),
        VerifierOf(task="logic", verifier=ExactAnswer(pattern=ANSWER_LINE)),
        VerifierOf(task="units", verifier=ReadsUnit()),
    )
)


def rollout(task: str, text: str, answer: str, finish: str = "stop", **meta: Any) -> Rollout:
    prompt = replace(make_prompt(), answer=answer, meta={"task": task, **meta})
    completion = replace(fake_completion(text), finish_reason=finish)
    steps = (Step(start=0, end=len(completion.token_ids)),)
    return replace(make_rollout("r", [], prompt=prompt), completion=completion, steps=steps)


async def test_each_is_decided_by_its_own_in_another_process() -> None:
    rollouts = [
        rollout("arithmetic", "1+1=2\n#2", "2", level=3),
        rollout("arithmetic", "1+1=2\n#2", "2", "length"),
        rollout("logic", "All a are b\n#yes", "yes"),
        rollout("logic", "All a are b\n#2", "2"),  # no answer of logic
        rollout("units", "4 cm", "4", unit="cm"),
        rollout("units", "4 cm", "4", unit="m"),
    ]
    items = [BOTH.item(each) for each in rollouts]
    with PatientPool(BOTH, workers=1) as pool:
        found = await pool.verify(items)
    assert [score.verdict for score in found if isinstance(score, OutcomeScore)] == [
        Verdict.CORRECT,
        Verdict.UNPARSABLE,
        Verdict.CORRECT,
        Verdict.UNPARSABLE,
        Verdict.CORRECT,
        Verdict.WRONG,
    ]
    # What a verifier does not read of a row is not sent.
    assert [item[2]["row"] for item in items[:5:2]] == [
        {"task": "arithmetic"},
        {"task": "logic"},
        {"task": "units", "unit": "cm"},
    ]


def test_a_problem_that_none_decides_over_is_refused() -> None:
    BOTH.check_prompt(rollout("logic", "", "").prompt)
    with pytest.raises(ValueError, match=r"none for prompt 'p', whose meta has task 'code'; it ha"):
        BOTH.check_prompt(rollout("code", "", "").prompt)
    with pytest.raises(ValueError, match="has task None"):
        BOTH.check_prompt(make_prompt())
    with pytest.raises(ValueError, match="prompt 'p' has no unit"):
        BOTH.check_prompt(rollout("units", "", "").prompt)
    with pytest.raises(ValueError, match="needs a second"):
        BOTH.check(0.5)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match=r"by_task\.verifiers is empty"):
        ByTask(verifiers=())
    with pytest.raises(ValueError, match=r"two for the task 'a'"):
        ByTask(verifiers=(VerifierOf(task="a", verifier=AnswerLine()),) * 2)
    with pytest.raises(ValueError, match=r"verifier_of\.task is ''"):
        VerifierOf(task="", verifier=AnswerLine())
