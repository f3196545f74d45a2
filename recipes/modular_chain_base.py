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
from rlstep.losses.step_likelihood import StepLikelihoodLoss
from rlstep.rollouts.first_error_search import FirstErrorSearch
from rlstep.rollouts.independent import Independent
from rlstep.scoring.step_models.likelihood_prm import LikelihoodPrm
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tasks.modular_chain import ModularChain
from rlstep.tensors.labels import LocatedError
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "modular_chain")
"""Shipped; `modular_chain_sft.py` made it."""
HORIZONS = (4, 8, 16, 32, 64)
"""K: operations of a chain, as the policy was made on."""
CONTEXT = 400
"""Tokens of the longest problem with its solution: 2 K + 3, and 4 K + 2."""
TASK = ModularChain()
EVALUATION = EvaluationConfig(problems=64, samples=8, temperature=1.0, ks=(1, 8), prm_problems=32)


def located(fraction: float = 1.0) -> FirstErrorSearch:
    """Where wrong chains went wrong, from greedy continuations of them.

    Of a long chain the policy samples hardly a right one and finishes most greedily, so one greedy
    continuation says whether a prefix is right.
    """
    return FirstErrorSearch(temperature=0.0, fraction=fraction)


def with_prm() -> dict[str, Any]:
    """A PRM that learns from half of the wrong chains where they went wrong, and scores them all.

    It scores a step by its likelihood, so it begins with what the policy knows. From the same
    labels a scalar head on this policy learns nothing in a run (its AUC stays under 0.55).
    """
    learner = LearnerConfig(
        model=ModelConfig(path=POLICY),
        optimizer=OptimizerConfig(learning_rate=3e-4, warmup_updates=4),
        reference="none",
        mini_batches=8,
        threads=1,  # it trains at the same time as the policy, on a core each
    )
    prm = LikelihoodPrm(learner=learner, loss=StepLikelihoodLoss(), view=LocatedError())
    return {"labellers": (located(fraction=0.5),), "step_models": (prm,)}


def modular_chain(name: str, operations: int, learning_rate: float, **fields: Any) -> Config:
    """A run on chains of so many operations; `fields` are the recipe's own."""
    defaults: dict[str, Any] = {
        "rollouts": Independent(
            samples_per_prompt=8, sampling=Sampling(max_tokens=4 * operations + 2)
        ),
        "evaluation": EVALUATION,
        "prompts_per_iteration": 32,
        "iterations": 32,
    }
    return Config(
        name=name,
        task=replace(TASK, operations=operations),
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_updates=4),
            mini_batches=4,
            threads=1,
        ),
        splitter=NewlineSplitter(),
        verifier=AnswerLine(),
        generator=GeneratorConfig(context=max(6 * operations + 16, 80), kv_cache_mib=128),
        max_prompt_tokens=2 * operations + 3,
        **{**defaults, **fields},
    )
