"""GRPO on arithmetic: advantages from the outcomes of each group."""

from arithmetic_base import arithmetic

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.policy_gradient import ClippedPolicyGradient


def config() -> Config:
    return arithmetic("arithmetic-grpo", samples=GroupAdvantages(), loss=ClippedPolicyGradient())


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
