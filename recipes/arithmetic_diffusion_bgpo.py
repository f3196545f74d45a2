"""BGPO on a masked diffusion language model: arithmetic by unmasking, trained online by its ELBO.

Outcome advantages of each group; the learner sees every completion under four random maskings.
"""

from diffusion_base import CANVAS, POLICY, TASK

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    DiffusionGeneratorConfig,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.losses.elbo_bgpo import ElboBgpo
from rlstep.rollouts.independent import Independent
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.types import Sampling


def config() -> Config:
    return Config(
        name="arithmetic-diffusion-bgpo",
        task=TASK,
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            head="masked_diffusion",
            elbo_samples=4,
            packing=False,
            reference="none",
            optimizer=OptimizerConfig(learning_rate=1e-4, warmup_updates=4),
            mini_batches=2,
            threads=1,
        ),
        loss=ElboBgpo(),
        samples=GroupAdvantages(),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=28)),
        splitter=NewlineSplitter(),
        verifier=AnswerLine(),
        generator=DiffusionGeneratorConfig(context=CANVAS, block=8),
        max_prompt_tokens=8,
        prompts_per_iteration=64,
        iterations=16,
        evaluation=EvaluationConfig(every=8),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
