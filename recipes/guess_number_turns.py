"""A number is guessed in five turns, and every guess is paid for what it did itself: its reward is
what it changed of the best play's chance.

The policy guesses anywhere in what it takes to be left of the range. Who does so without a mistake
wins 54 % of the games (by dynamic programming, see `environments.guess_number.value`), and it 45 %;
who halves the range wins them all.
"""

from pathlib import Path
from typing import Any

from rlstep.advantages.step_sum import StepSum
from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.environments.guess_number import GuessNumber
from rlstep.environments.plain_turns import PlainTurns
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.rollouts.conversation import Conversation
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.steps.turns import Turns
from rlstep.tasks.guess_number import NEWLINE, GuessNumberTask
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "guess_number")
"""Shipped; `guess_number_sft.py` made it."""
GUESSES = 5
GAME = Conversation(
    environment=GuessNumber(guesses=GUESSES, shaped=True),
    samples_per_prompt=8,
    turns=GUESSES,
    turn_tokens=4,
    sampling=Sampling(max_tokens=32, stop_token_ids=(NEWLINE,)),
    format=PlainTurns(before="", after="\n"),
)


def guessing(name: str, **fields: Any) -> Config:
    """A run on this task; `fields` take the place of this recipe's own."""
    return Config(
        name=name,
        task=GuessNumberTask(),
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            # Warm-up keeps a cold Adam from wrecking a trained model.
            optimizer=OptimizerConfig(learning_rate=5e-4, warmup_updates=10),
            mini_batches=2,
            threads=1,
        ),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        splitter=Turns(),
        verifier=ExactAnswer(pattern=r"(\d+)\n"),
        generator=GeneratorConfig(context=128, kv_cache_mib=128),
        max_prompt_tokens=16,
        rollouts=GAME,
        prompts_per_iteration=64,
        iterations=16,
        **fields,
    )


def config() -> Config:
    # Where no such reward is known: samples=Vine(), labellers=(MonteCarlo(),), at several times the
    # tokens.
    return guessing(
        "guess-number-turns",
        samples=StepSum(source="environment", outcome_coefficient=0.0),
        evaluation=EvaluationConfig(every=4),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
