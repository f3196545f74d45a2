"""The main job with SSB adapters: 5,632 scales are trained, beside 495,232 frozen numbers.

A scale starts at 1 and moves by about the learning rate an update, so the rate is a hundred
times that of the weights.
"""

from dataclasses import replace

from arithmetic_base import POLICY, arithmetic, policy, with_prm

from rlstep.adapters.scaling import Ssb
from rlstep.cli import run_recipe
from rlstep.config import Config, ModelConfig, OptimizerConfig
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.pairs.outcome import OutcomePairs


def config() -> Config:
    return arithmetic(
        "arithmetic-ssb",
        policy=replace(
            policy(),
            model=ModelConfig(path=POLICY, adapter=Ssb()),
            optimizer=OptimizerConfig(learning_rate=1e-2, warmup_updates=4),
        ),
        samples=OutcomePairs(step_source="prm"),
        loss=FullStepDpo(beta=0.1, gamma=2.0),
        **with_prm(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
