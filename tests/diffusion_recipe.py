"""A whole run of a diffusion policy in miniature: random weights, a reward by chance."""

import os

from rlstep.advantages.group import GroupAdvantages
from rlstep.config import (
    Config,
    DiffusionGeneratorConfig,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    ScorerConfig,
)
from rlstep.losses.elbo_bgpo import ElboBgpo
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.steps.pattern import PatternSplitter
from rlstep.types import Sampling
from tests.tiny_recipe import TASK, EvenLength


def config() -> Config:
    return Config(
        name="diffusion",
        task=TASK,
        policy=LearnerConfig(
            model=ModelConfig(path=os.environ["TINY_POLICY"]),
            head="masked_diffusion",
            elbo_samples=2,
            packing=False,
            reference="none",
            optimizer=OptimizerConfig(learning_rate=1e-3),
            threads=1,
            world_size=2,
        ),
        samples=GroupAdvantages(),
        loss=ElboBgpo(),
        rollouts=Independent(samples_per_prompt=4, sampling=Sampling(max_tokens=12)),
        splitter=PatternSplitter(pattern=r"[+=#]"),
        verifier=EvenLength(),
        labellers=(MonteCarlo(continuations=2, fraction=0.5),),
        generator=DiffusionGeneratorConfig(context=24, block=4, replicas=2, deadline_s=1800.0),
        scorer=ScorerConfig(deadline_s=300.0),
        deadline_s=1800.0,
        evaluation=EvaluationConfig(every=1),
        max_prompt_tokens=8,
        prompts_per_iteration=4,
        iterations=2,
        checkpoint_every=1,
    )
