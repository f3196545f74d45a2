"""What the arithmetic recipes share: the task, the shipped policy, the sizes that fit a laptop."""

from pathlib import Path
from typing import Any

from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.losses.step_label import StepLabelLoss
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.scoring.step_models.prm import Prm
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine, Arithmetic
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "arithmetic")
TASK = Arithmetic(operations=8, largest_operand=9, largest_factor=3, limit=20)
SAMPLING = Sampling(max_tokens=72)


def policy(**fields: Any) -> LearnerConfig:
    """The shipped policy under AdamW; warm-up keeps a cold Adam from wrecking a trained model."""
    return LearnerConfig(
        model=ModelConfig(path=POLICY),
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup_updates=10),
        mini_batches=2,
        threads=1,
        **fields,
    )


def scalar_learner() -> LearnerConfig:
    """For a PRM or a critic: the policy's weights under a scalar head."""
    return LearnerConfig(
        model=ModelConfig(path=POLICY),
        head="token_classification",
        optimizer=OptimizerConfig(learning_rate=3e-4, warmup_updates=10),
        reference="none",
        mini_batches=4,
        threads=1,  # it trains at the same time as the policy, on a core each
    )


def with_prm() -> dict[str, Any]:
    """A PRM that learns from the policy's own continuations."""
    return {
        "labellers": (MonteCarlo(continuations=4, fraction=0.1),),
        "step_models": (Prm(learner=scalar_learner(), loss=StepLabelLoss()),),
    }


def arithmetic(name: str, **fields: Any) -> Config:
    """A run on the arithmetic task; `fields` are the recipe's own."""
    defaults: dict[str, Any] = {
        "task": TASK,
        "policy": policy(),
        "rollouts": Independent(samples_per_prompt=8, sampling=SAMPLING),
        "splitter": NewlineSplitter(),
        "verifier": AnswerLine(),
        "generator": GeneratorConfig(context=128, kv_cache_mib=128),
        "max_prompt_tokens": 48,
        "prompts_per_iteration": 64,
        "iterations": 12,
        "evaluation": EvaluationConfig(every=3),
    }
    return Config(name=name, **{**defaults, **fields})
