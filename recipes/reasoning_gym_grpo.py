"""GRPO on two of reasoning-gym's data sets at once: sums of digits, and the legs of animals.

Needs the extra `rlstep[reasoning-gym]`. The policy can work out both, and its habit is not to (see
`reasoning_gym_worked.py`); `reasoning_gym_sft.py` made it. With DAPO's two departures from the
paper's loss: the mean over all tokens, and no KL.
"""

from pathlib import Path

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.rollouts.independent import Independent
from rlstep.scoring.answers.reasoning_gym_answer import ReasoningGymAnswer
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.reasoning_gym import ReasoningGym, Source
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "reasoning_gym")
"""Shipped; `reasoning_gym_sft.py` made it."""
TASK = ReasoningGym(
    sources=(
        Source(
            dataset="chain_sum",
            config={"min_terms": 4, "max_terms": 5, "min_digits": 1, "max_digits": 1},
        ),
        Source(
            dataset="leg_counting",
            config={"min_animals": 3, "max_animals": 3, "max_instances": 5},
        ),
    ),
    template=PromptTemplate(text="{problem}\n"),
)


def config() -> Config:
    return Config(
        name="reasoning-gym-grpo",
        task=TASK,
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            # Warm-up keeps a cold Adam from wrecking a trained model.
            optimizer=OptimizerConfig(learning_rate=1e-4, warmup_updates=10),
            mini_batches=2,
            threads=1,
        ),
        samples=GroupAdvantages(),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=80)),
        splitter=NewlineSplitter(),
        verifier=ReasoningGymAnswer(),
        generator=GeneratorConfig(context=128, kv_cache_mib=128),
        max_prompt_tokens=48,
        prompts_per_iteration=64,
        iterations=10,
        evaluation=EvaluationConfig(every=2),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
