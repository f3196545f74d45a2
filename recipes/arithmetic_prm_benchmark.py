"""How well a PRM finds first errors of the arithmetic task, by ProcessBench's protocol.

rlstep fit recipes/arithmetic_prm_fit.py --name prm
rlstep eval recipes/arithmetic_prm_benchmark.py --model.learner.model.path runs/prm/export

On solutions of 4, 8 and 16 operations, of which the exact oracle knows the first error: of the kind
that the shipped policy makes, and of other kinds. A PRM that a run trained is measured in the same
way, and with `ProcessBench` on published solutions: `prm_benchmark.py`.
"""

from arithmetic_base import TASK

from rlstep.benchmarks.arithmetic_steps import ArithmeticSteps
from rlstep.benchmarks.benchmark_config import BenchmarkConfig
from rlstep.cli import run_recipe
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.scoring.step_models.frozen_prm import FrozenPrm


def config() -> BenchmarkConfig:
    learner = LearnerConfig(
        model=ModelConfig(path="runs/prm/export"),
        head="token_classification",
        reference="none",
        threads=1,
    )
    return BenchmarkConfig(
        name="arithmetic-prm",
        model=FrozenPrm(learner=learner),
        benchmarks=(
            ArithmeticSteps(name="habit", errors="habit", task=TASK, lengths=(4, 8, 16)),
            ArithmeticSteps(name="slips", task=TASK, lengths=(4, 8, 16)),
        ),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
