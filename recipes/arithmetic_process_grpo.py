"""GRPO on arithmetic by outcome and by process: the PRM's step scores beside the verifier's.

The scores alone would do harm here: their suffix sums pay for long chains, and a PRM that begins to
learn can be pleased by filler. With DAPO's two departures from the paper's loss: the mean over all
tokens, and no KL.
"""

from arithmetic_base import arithmetic, with_prm

from rlstep.advantages.mixture import Mixture
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean


def config() -> Config:
    return arithmetic(
        "arithmetic-process-grpo",
        samples=Mixture(process_coefficient=0.2),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        **with_prm(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
