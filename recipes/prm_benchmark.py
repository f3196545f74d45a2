"""A PRM off the shelf on ProcessBench, and the same PRM as a judge of whole answers on RMB's pairs.

rlstep eval recipes/prm_benchmark.py --gpus 1 --benchmarks.0.path FOLDER --benchmarks.1.path FOLDER

The folders are the published ones, as they are: ProcessBench's with gsm8k.json, math.json,
olympiadbench.json and omnimath.json, and RMB's with its two sets. The threshold is chosen on gsm8k,
as in the paper, so that subset's own F1 is told apart and is no part of the mean;
`--benchmarks.0.tuned-on ''` takes 1/2 for all four.
"""

from rlstep.benchmarks.benchmark_config import BenchmarkConfig
from rlstep.benchmarks.process_bench import ProcessBench
from rlstep.benchmarks.rmb import Rmb
from rlstep.cli import run_recipe
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.qwen_math_prm import QwenMathPrmLayout


def config() -> BenchmarkConfig:
    learner = LearnerConfig(
        model=ModelConfig(path="Qwen/Qwen2.5-Math-PRM-7B", dtype="bfloat16"),
        head="process_reward",
        reference="none",
    )
    return BenchmarkConfig(
        name="prm",
        model=FrozenPrm(learner=learner, layout=QwenMathPrmLayout()),
        benchmarks=(
            ProcessBench(path="data/ProcessBench", tuned_on="gsm8k"),
            Rmb(path="data/RMB_dataset", step_end="\n\n", aggregate="min"),
        ),
        gpus=1.0,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
