"""PRIME on arithmetic: process rewards from a language model that is trained on outcomes alone."""

from arithmetic_base import arithmetic, policy

from rlstep.advantages.prime import Prime
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.implicit_outcome import ImplicitOutcomeLoss
from rlstep.losses.ppo import Ppo
from rlstep.scoring.step_models.implicit_prm import ImplicitPrm


def config() -> Config:
    return arithmetic(
        "arithmetic-prime",
        samples=Prime(),
        loss=Ppo(),
        step_models=(
            ImplicitPrm(
                learner=policy(reference="initial"), loss=ImplicitOutcomeLoss(beta=0.05), beta=0.05
            ),
        ),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
