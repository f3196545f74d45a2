"""PPO on arithmetic, with reasoning steps as the actions: GAE over a critic's step values."""

from arithmetic_base import arithmetic, scalar_learner

from rlstep.advantages.gae import Gae
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.ppo import Ppo
from rlstep.losses.value import ValueLoss
from rlstep.scoring.step_models.critic import Critic

GAE = Gae(level="step", lam=0.95)


def config() -> Config:
    return arithmetic(
        "arithmetic-ppo",
        samples=GAE,
        loss=Ppo(),
        step_models=(Critic(learner=scalar_learner(), loss=ValueLoss(), gae=GAE),),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
