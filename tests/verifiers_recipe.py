"""A number is guessed under a server of verifiers (tests/rollouts/verifiers_server.py)."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))
from guess_number_turns import guessing

from rlstep.advantages.rloo import Rloo
from rlstep.config import Config, EvaluationConfig
from rlstep.interfaces import PromptSet, Tokenizer
from rlstep.reporting.sinks.usual import USUAL
from rlstep.reporting.sinks.verifiers_traces import VerifiersTraces
from rlstep.rollouts.verifiers import Verifiers
from rlstep.tasks.guess_number import GuessNumberTask
from rlstep.types import Prompt, Sampling

CREDIT = Rloo(source="return")


@dataclass(frozen=True, kw_only=True)
class Served(GuessNumberTask):
    """Its problems, with the data of the server's task."""

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        made = super().load(tokenizer, max_prompt_tokens)
        train, evaluation = ([served(p) for p in part] for part in (made.train, made.evaluation))
        return replace(made, train=train, evaluation=evaluation)


def served(prompt: Prompt) -> Prompt:
    data = {"prompt": prompt.text.strip(), "answer": int(prompt.answer), "guesses": 5}
    return replace(prompt, meta={"task_data": data})


def config() -> Config:
    policy = os.environ["SERVED_POLICY"]
    made = guessing(
        "verifiers",
        samples=CREDIT,
        evaluation=EvaluationConfig(),
        sinks=(*USUAL, VerifiersTraces(samples=CREDIT)),
    )
    strategy = Verifiers(
        address=os.environ["VERIFIERS_SERVER"],
        tokenizer=policy,
        wins=1.0,
        turn_tokens=4,
        sampling=Sampling(max_tokens=32),
    )
    model = replace(made.policy.model, path=policy)
    return replace(
        made,
        task=Served(),
        rollouts=strategy,
        policy=replace(made.policy, model=model),
        iterations=3,
        prompts_per_iteration=16,
    )
