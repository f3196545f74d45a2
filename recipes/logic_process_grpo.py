"""GRPO with process supervision on logic: advantages from an exact check of every deduction.

The checker stands where a proof assistant such as Lean would: it says whether a step follows, not
how to go on. With DAPO's two departures from the paper's loss: the mean over all tokens, and no KL.

It starts from the policy that `logic_sft.py` made (`policies/logic`).
"""

from pathlib import Path

from rlstep.advantages.process import ProcessAdvantages
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
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.scoring.rewards.oracle_steps import OracleSteps
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.logic import ANSWER_LINE, Logic
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "logic")
"""Shipped; `logic_sft.py` made it."""
TASK = Logic(premises=3)


def config() -> Config:
    return Config(
        name="logic-process-grpo",
        task=TASK,
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            # Warm-up keeps a cold Adam from wrecking a trained model.
            optimizer=OptimizerConfig(learning_rate=1e-4, warmup_updates=10),
            mini_batches=2,
            threads=1,
        ),
        samples=ProcessAdvantages(source="oracle"),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=64)),
        splitter=NewlineSplitter(),
        verifier=ExactAnswer(pattern=ANSWER_LINE),
        labellers=(OracleSteps(task=TASK),),
        generator=GeneratorConfig(context=128, kv_cache_mib=128),
        max_prompt_tokens=64,
        prompts_per_iteration=64,
        iterations=12,
        evaluation=EvaluationConfig(every=3),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
