"""Step-DPO on MATH with a 7B model under LoRA, disaggregated over 4 GPUs.

Two GPUs generate, one trains the policy and one the PRM. The training problems are a .jsonl file of
`problem`, `solution`, `answer` rows, or a hub data set in that form.
"""

from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    PlacementConfig,
)
from rlstep.losses.step_dpo import StepDpo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.rectify import Rectify
from rlstep.scoring.answers.math_answer import MathAnswer
from rlstep.scoring.step_models.prm import Prm
from rlstep.steps.marker import MarkerSplitter
from rlstep.tasks.math import Math
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import Sampling

PATH = "Qwen/Qwen2.5-Math-7B-Instruct"
TEMPLATE = PromptTemplate(
    text="{problem}\nReason in steps that begin with 'Step k:'. Put the answer in \\boxed{{}}.",
    suffix="Step 1:",
)


def learner(
    rate: float, head: str = "language_model", reference: str = "iteration"
) -> LearnerConfig:
    """A 7B model in bfloat16 with adapters of rank 64."""
    return LearnerConfig(
        model=ModelConfig(
            path=PATH,
            dtype="bfloat16",
            lora=LoraConfig(rank=64, alpha=128.0),
            gradient_checkpointing=True,
        ),
        head=head,  # type: ignore[arg-type]  # checked by LearnerConfig
        optimizer=OptimizerConfig(learning_rate=rate, warmup_updates=20),
        reference=reference,  # type: ignore[arg-type]
        mini_batches=4,
    )


def config() -> Config:
    return Config(
        name="math-step-dpo",
        task=Math(
            path="nlile/hendrycks-MATH-benchmark", split="train", held_out=500, template=TEMPLATE
        ),
        policy=learner(5e-6),
        samples=FirstErrorPairs(threshold=0.5),
        loss=StepDpo(beta=0.4),
        rollouts=Rectify(
            base=Independent(samples_per_prompt=4, sampling=Sampling(max_tokens=1024)),
            rectifications=8,
        ),
        splitter=MarkerSplitter(),
        verifier=MathAnswer(),
        labellers=(MonteCarlo(continuations=8, fraction=0.1),),
        step_models=(
            Prm(learner=learner(1e-5, "token_classification", "none"), loss=StepLabelLoss()),
        ),
        generator=GeneratorConfig(
            replicas=2,
            dtype="bfloat16",
            context=2048,
            kv_cache_mib=0,
            block_size=16,
            enforce_eager=False,
            transfer="nccl",
            parity_tolerance=0.2,
        ),
        placement=PlacementConfig(generator_gpus=1, policy_gpus=1, step_model_gpus=1),
        evaluation=EvaluationConfig(every=10),
        prompts_per_iteration=64,
        max_prompt_tokens=768,
        iterations=100,
        checkpoint_every=10,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
