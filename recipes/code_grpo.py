"""GRPO on Python functions with a 0.5B coder model, everything on one GPU (48 GB or more).

Programs are scored by the tests of their problem, in a sandbox on the scorer's machine; where that
machine allows none, --verifier.url names one elsewhere. HumanEval shows the form: it is too small
to train on, and a model trained on it can no longer be measured by it. For more, give a file of
`task_id`, `prompt`, `test`, `entry_point` rows: --task.path problems.jsonl
"""

from one_gpu import generator

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
    PlacementConfig,
    ScorerConfig,
)
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.rollouts.independent import Independent
from rlstep.scoring.programs.code_tests import CodeTests
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.humaneval import HumanEval
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import Sampling

TEMPLATE = PromptTemplate(
    text="Complete this Python function. Answer with one ```python block.\n\n{problem}"
)


def config() -> Config:
    return Config(
        name="code-grpo",
        task=HumanEval(path="openai/openai_humaneval", held_out=64, template=TEMPLATE),
        policy=LearnerConfig(
            model=ModelConfig(
                path="Qwen/Qwen2.5-Coder-0.5B-Instruct",
                dtype="bfloat16",
                gradient_checkpointing=True,
            ),
            optimizer=OptimizerConfig(learning_rate=1e-6, warmup_updates=10),
            token_budget=16384,
            mini_batches=4,
        ),
        samples=GroupAdvantages(),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=512)),
        splitter=NewlineSplitter(),
        verifier=CodeTests(seconds=8.0),
        scorer=ScorerConfig(processes=8, deadline_s=20.0),
        generator=generator(1024),
        placement=PlacementConfig(generator_gpus=0.5, policy_gpus=0.5, strategy="STRICT_PACK"),
        evaluation=EvaluationConfig(every=5),
        prompts_per_iteration=32,
        max_prompt_tokens=512,
        iterations=50,
        checkpoint_every=10,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
