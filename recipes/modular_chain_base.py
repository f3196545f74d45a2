"""What the recipes of the long chains share: the horizons, the shipped policy, sizes by length."""

from dataclasses import replace
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
from rlstep.rollouts.first_error_search import FirstErrorSearch
from rlstep.rollouts.independent import Independent
from rlstep.scoring.step_models.prm import Prm
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tasks.modular_chain import ModularChain
from rlstep.tensors.labels import LocatedError
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "modular_chain")
"""Shipped; `modular_chain_sft.py` made it."""
HORIZONS = (4, 8, 16, 32, 64)
"""K: operations of a chain."""
CONTEXT = 400
"""Tokens of the longest problem with its solution: 2 K + 3, and 4 K + 2."""
TASK = ModularChain()


def with_prm() -> dict[str, Any]:
    """A PRM that learns where wrong chains went wrong, from greedy continuations of them.

    Of a long chain the policy samples hardly a right one and finishes most greedily, so one greedy
    continuation says whether a prefix is right.
    """
    learner = LearnerConfig(
        model=ModelConfig(path=POLICY),
        head="token_classification",
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_updates=4),
        reference="none",
        mini_batches=4,
        threads=1,  # it trains at the same time as the policy, on a core each
    )
    return {
        "labellers": (FirstErrorSearch(temperature=0.0, fraction=0.1),),
        "step_models": (Prm(learner=learner, loss=StepLabelLoss(), view=LocatedError()),),
    }


def modular_chain(name: str, operations: int, learning_rate: float, **fields: Any) -> Config:
    """A run on chains of so many operations; `fields` are the recipe's own."""
    defaults: dict[str, Any] = {
        "rollouts": Independent(
            samples_per_prompt=8, sampling=Sampling(max_tokens=4 * operations + 2)
        ),
        "evaluation": EvaluationConfig(problems=128, samples=8, ks=(1, 8), prm_problems=64),
        "iterations": 32,
    }
    return Config(
        name=name,
        task=replace(TASK, operations=operations),
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_updates=4),
            mini_batches=2,
            threads=1,
        ),
        splitter=NewlineSplitter(),
        verifier=AnswerLine(),
        generator=GeneratorConfig(context=max(6 * operations + 16, 80), kv_cache_mib=128),
        max_prompt_tokens=2 * operations + 3,
        prompts_per_iteration=32,
        **{**defaults, **fields},
    )
