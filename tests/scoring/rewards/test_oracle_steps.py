from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstep.scoring.rewards.oracle_steps import OracleSteps
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.tasks.gsm8k import Gsm8k
from rlstep.tasks.logic import Logic
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.types import Prompt
from tests.builders import make_text_rollout

SUM = "2+3*2\n"
CHAIN = "All a are b\nAll b are c\nAll a are c?\n"


@pytest.mark.parametrize(
    ("task", "text", "lines", "expected"),
    [
        # 2+3=5 is right, 5*2=11 is not, and after it nothing is.
        (Arithmetic(operations=2), SUM, ["2+3=5\n", "5*2=11\n", "#11"], [1.0, 0.0, 0.0]),
        (Arithmetic(operations=2), SUM, ["2+3=5\n", "5*2=10\n", "#10"], [1.0, 1.0, 1.0]),
        (Logic(), CHAIN, ["All a are b, All b are c: No a are c\n", "#no"], [0.0, 0.0]),
        (Logic(), CHAIN, ["All a are b, All b are c: All a are c\n", "#no"], [1.0, 0.0]),
    ],
)
async def test_what_is_right_before_the_first_error(
    task: Any, text: str, lines: list[str], expected: list[float]
) -> None:
    prompt = Prompt(prompt_id="a", token_ids=np.array([1], np.int32), text=text, answer="")
    rollouts = [make_text_rollout(prompt, lines), make_text_rollout(prompt, lines[:1])]
    context = fake_context(FakeGenerator(lambda *_: ""), FakeScorer())
    labelled = await OracleSteps(task=task).label(rollouts, context)
    assert [r.rollout_id for r in labelled] == [r.rollout_id for r in rollouts]
    scores = [rollout.step_scores("oracle") for rollout in labelled]
    assert [s.values.tolist() for s in scores if s is not None] == [expected, expected[:1]]
    assert all(s is not None and s.values.dtype == np.float32 and s.n is None for s in scores)


def test_a_task_that_is_no_oracle_is_refused() -> None:
    task: Any = Gsm8k(path="train.jsonl")
    with pytest.raises(ValueError, match=r"oracle_steps\.task is Gsm8k.* Arithmetic or Logic"):
        OracleSteps(task=task)
