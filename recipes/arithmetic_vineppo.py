"""VinePPO on arithmetic: advantages of steps from Monte-Carlo values instead of a critic's."""

from arithmetic_base import arithmetic

from rlstep.advantages.vine import Vine
from rlstep.advantages.whitened import Whitened
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.ppo import Ppo
from rlstep.rollouts.monte_carlo import MonteCarlo


def config() -> Config:
    return arithmetic(
        "arithmetic-vineppo",
        prompts_per_iteration=32,
        samples=Whitened(of=Vine()),
        loss=Ppo(),
        # A rollout's own outcome would stand on both sides of its advantages.
        labellers=(MonteCarlo(continuations=4, own_outcome=False),),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
