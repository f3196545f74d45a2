"""GRPO on arithmetic: advantages from the outcomes of each group.

With DAPO's two departures from the paper's loss: the mean over all tokens, and no KL.
"""

from arithmetic_base import arithmetic

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean


def config() -> Config:
    return arithmetic(
        "arithmetic-grpo",
        samples=GroupAdvantages(),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
