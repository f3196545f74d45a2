"""GRPO on arithmetic with a reward of several parts: the outcome, and penalties for its form.

The reward is outcome + 0.5 * length + 0.5 * repeated_steps. Parts have their means of their own in
the metrics ('rollout/score/length'), so that what is learnt can be seen.
"""

from arithmetic_base import SAMPLING, arithmetic

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.grpo import Grpo
from rlstep.scoring.rewards.repeated_steps import RepeatedSteps
from rlstep.scoring.rewards.soft_overlong import SoftOverlong
from rlstep.scoring.rewards.weighted_sum import WeightedSum


def config() -> Config:
    return arithmetic(
        "arithmetic-rewards",
        labellers=(
            SoftOverlong(longest=SAMPLING.max_tokens, buffer=16),
            RepeatedSteps(),
            WeightedSum(weights={"outcome": 1.0, "length": 0.5, "repeated_steps": 0.5}),
        ),
        samples=GroupAdvantages(source="reward"),
        loss=Grpo(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
