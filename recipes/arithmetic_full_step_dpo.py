"""Full-Step-DPO on arithmetic: every step weighted by a PRM that the policy labels itself."""

from arithmetic_base import arithmetic, with_prm

from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.pairs.outcome import OutcomePairs


def config() -> Config:
    return arithmetic(
        "arithmetic-full-step-dpo",
        samples=OutcomePairs(step_source="prm"),
        loss=FullStepDpo(beta=0.1, gamma=2.0),
        **with_prm(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
