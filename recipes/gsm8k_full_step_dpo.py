"""Full-Step-DPO on GSM8K with a 0.5B model, everything on one GPU (48 GB or more).

Three engines of memory on one GPU: 0.4 for the generator, 0.4 and 0.2 for the two learners. With
more GPUs, disaggregate: --placement.generator-gpus 1 --placement.policy-gpus 1
--placement.step-model-gpus 1 --generator.transfer nccl, and --generator.replicas,
--policy.world-size as many as there are.
"""

from one_gpu import generator

from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    PlacementConfig,
)
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.pairs.outcome import OutcomePairs
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.scoring.answers.math_answer import MathAnswer
from rlstep.scoring.step_models.prm import Prm
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.gsm8k import Gsm8k
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import Sampling

MODEL = ModelConfig(
    path="Qwen/Qwen2.5-0.5B-Instruct", dtype="bfloat16", gradient_checkpointing=True
)
TEMPLATE = PromptTemplate(
    system="Solve the problem step by step, one step a line. End with '#### ' and the answer."
)


def config() -> Config:
    return Config(
        name="gsm8k-full-step-dpo",
        task=Gsm8k(path="openai/gsm8k", subset="main", template=TEMPLATE),
        policy=LearnerConfig(
            model=MODEL,
            optimizer=OptimizerConfig(learning_rate=5e-7, warmup_updates=50),
            token_budget=16384,
            mini_batches=4,
            statistics_every=10,  # 5e-7 is near what bfloat16 loses
        ),
        samples=OutcomePairs(step_source="prm", max_pairs=8),
        loss=FullStepDpo(beta=0.05, gamma=0.5),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=512)),
        splitter=NewlineSplitter(),
        verifier=MathAnswer(),
        labellers=(MonteCarlo(continuations=8, fraction=0.1),),
        step_models=(
            Prm(
                learner=LearnerConfig(
                    model=MODEL,
                    head="token_classification",
                    optimizer=OptimizerConfig(learning_rate=2e-6, warmup_updates=50),
                    reference="none",
                    mini_batches=4,
                ),
                loss=StepLabelLoss(),
            ),
        ),
        generator=generator(1024),
        placement=PlacementConfig(
            generator_gpus=0.4, policy_gpus=0.4, step_model_gpus=0.2, strategy="STRICT_PACK"
        ),
        evaluation=EvaluationConfig(every=20),
        prompts_per_iteration=128,
        max_prompt_tokens=512,
        iterations=200,
        checkpoint_every=20,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
