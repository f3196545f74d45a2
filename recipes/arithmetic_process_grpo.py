"""GRPO with process supervision on arithmetic: advantages from the PRM's step scores."""

from arithmetic_base import arithmetic, with_prm

from rlstep.advantages.process import ProcessAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.policy_gradient import ClippedPolicyGradient


def config() -> Config:
    return arithmetic(
        "arithmetic-process-grpo",
        samples=ProcessAdvantages(source="prm"),
        loss=ClippedPolicyGradient(),
        **with_prm(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
