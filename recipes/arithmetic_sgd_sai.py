"""Full-Step-DPO on arithmetic with the policy under SGD-SaI, which keeps one moment of a weight."""

from dataclasses import replace

from arithmetic_base import arithmetic, policy, with_prm

from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.optimizers.sgd_sai import SgdSai
from rlstep.pairs.outcome import OutcomePairs


def config() -> Config:
    return arithmetic(
        "arithmetic-sgd-sai",
        policy=replace(policy(), optimizer=SgdSai(learning_rate=3e-4, weight_decay=0.0)),
        samples=OutcomePairs(step_source="prm"),
        loss=FullStepDpo(beta=0.1, gamma=2.0),
        **with_prm(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
