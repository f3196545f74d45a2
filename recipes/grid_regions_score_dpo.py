"""UV-CoT as far as text reaches: a policy learns to look where it was asked to, by DPO with a
score offset on candidate regions, each answered.

Every sample names a region of a grid of characters and answers from it. The evaluator is exact: how
much of the asked object's region it named (intersection over union), plus whether the answer is
right. A prompt's best candidate is paired with its worst, and the margin that the loss asks for
grows with the difference of their scores. There is no picture and no vision tower in it.

It starts from the policy that `grid_regions_sft.py` made (`policies/grid_regions`).
"""

from pathlib import Path

from rlstep.cli import run_recipe
from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.losses.score_offset_dpo import ScoreOffsetDpo
from rlstep.pairs.ranked import RankedPairs
from rlstep.rollouts.independent import Independent
from rlstep.scoring.rewards.weighted_sum import WeightedSum
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tasks.grid_regions import GridRegions, RegionOverlap
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "grid_regions")
"""Shipped; `grid_regions_sft.py` made it."""


def config() -> Config:
    return Config(
        name="grid-regions-score-dpo",
        task=GridRegions(),
        policy=LearnerConfig(
            model=ModelConfig(path=POLICY),
            # Warm-up keeps a cold Adam from wrecking a trained model.
            optimizer=OptimizerConfig(learning_rate=3e-4, warmup_updates=10),
            mini_batches=2,
            threads=1,
        ),
        samples=RankedPairs(source="reward"),
        loss=ScoreOffsetDpo(beta=0.1, scale=0.5),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=12)),
        splitter=NewlineSplitter(),
        verifier=AnswerLine(),
        labellers=(
            RegionOverlap(),
            WeightedSum(weights={"region": 1.0, "outcome": 1.0}),
        ),
        generator=GeneratorConfig(context=96, kv_cache_mib=128),
        max_prompt_tokens=64,
        prompts_per_iteration=64,
        iterations=32,
        evaluation=EvaluationConfig(every=8),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
