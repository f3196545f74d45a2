"""The smallest complete configuration and problems, for tests that start nothing."""

from __future__ import annotations

from typing import Any

from rlstep.config import Config, GeneratorConfig, LearnerConfig, ModelConfig
from rlstep.losses.dpo import Dpo
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.independent import Independent
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine, Arithmetic
from rlstep.testing.roles import token_ids
from rlstep.types import Prompt, Sampling


def small_config(**fields: Any) -> Config:
    """Outcome DPO on arithmetic, two prompts an iteration; `fields` replace its own."""
    defaults: dict[str, Any] = {
        "name": "small",
        "task": Arithmetic(operations=2, train=8, evaluation=2),
        "policy": LearnerConfig(model=ModelConfig(path="/nowhere"), reference="initial"),
        "samples": OutcomePairs(),
        "loss": Dpo(),
        "rollouts": Independent(samples_per_prompt=2, sampling=Sampling(max_tokens=64)),
        "splitter": NewlineSplitter(),
        "verifier": AnswerLine(),
        "generator": GeneratorConfig(context=128),
        "max_prompt_tokens": 16,
        "prompts_per_iteration": 2,
        "iterations": 3,
    }
    return Config(**{**defaults, **fields})


def small_prompt(prompt_id: str, text: str = "2+3\n", answer: str = "5") -> Prompt:
    return Prompt(prompt_id=prompt_id, token_ids=token_ids(text), text=text, answer=answer)


def small_prompts(number: int) -> list[Prompt]:
    """Problems 'a', 'b', ...: the text of problem 'c' is 'c=\\n', its answer 5."""
    names = [chr(ord("a") + i) for i in range(number)]
    return [small_prompt(name, text=f"{name}=\n") for name in names]
