"""GRPO with process supervision on arithmetic: advantages from the PRM's step scores.

With DAPO's two departures from the paper's loss: the mean over all tokens, and no KL.
"""

from arithmetic_base import arithmetic, with_prm

from rlstep.advantages.process import ProcessAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean


def config() -> Config:
    return arithmetic(
        "arithmetic-process-grpo",
        samples=ProcessAdvantages(source="prm"),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        **with_prm(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
