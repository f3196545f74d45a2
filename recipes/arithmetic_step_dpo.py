"""Step-DPO on arithmetic: the first wrong step, found by the PRM, against a rectified one."""

from arithmetic_base import SAMPLING, arithmetic, with_prm

from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.step_dpo import StepDpo
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.rectify import Rectify


def config() -> Config:
    return arithmetic(
        "arithmetic-step-dpo",
        rollouts=Rectify(base=Independent(samples_per_prompt=4, sampling=SAMPLING)),
        samples=FirstErrorPairs(),
        loss=StepDpo(beta=0.1),
        **with_prm(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
