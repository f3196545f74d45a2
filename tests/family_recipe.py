"""Outcome DPO on any tiny policy, two iterations: for the test of the model families."""

import os

from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.losses.dpo import Dpo
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.independent import Independent
from rlstep.steps.pattern import PatternSplitter
from rlstep.types import Sampling
from tests.tiny_recipe import TASK, EvenLength


def config() -> Config:
    return Config(
        name="family",
        task=TASK,
        policy=LearnerConfig(
            model=ModelConfig(path=os.environ["TINY_POLICY"]),
            optimizer=OptimizerConfig(learning_rate=1e-2),
            threads=1,
        ),
        samples=OutcomePairs(),
        loss=Dpo(),
        rollouts=Independent(samples_per_prompt=4, sampling=Sampling(max_tokens=12)),
        splitter=PatternSplitter(pattern=r"[+=#]"),
        verifier=EvenLength(),
        generator=GeneratorConfig(context=96, kv_cache_mib=32),
        evaluation=EvaluationConfig(problems=4),
        max_prompt_tokens=32,
        prompts_per_iteration=4,
        iterations=2,
    )
