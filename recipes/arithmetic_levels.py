"""GRPO on arithmetic of larger and larger numbers: a dial that measured accuracy turns.

The policy was trained on chains whose values stay within 20. An iteration samples problems of one
limit until 75 % of its rollouts are right, then of the next one. Every group without signal is
replaced by that of a further problem of the same level (DAPO's dynamic sampling), up to 32 of them.
"""

from dataclasses import replace

from arithmetic_base import TASK, arithmetic

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.curriculum.level_dial import LevelDial
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.tasks.mixture import Part, TaskMixture

LIMITS = (20, 22, 24)
LEVELS = TaskMixture(
    parts=tuple(
        Part(
            name=f"limit-{limit}",
            task=replace(TASK, limit=limit, train=2048, evaluation=128),
            level=level,
        )
        for level, limit in enumerate(LIMITS)
    )
)


def config() -> Config:
    return arithmetic(
        "arithmetic-levels",
        task=LEVELS,
        curriculum=LevelDial(promote_at=0.75, iterations=1),
        further_prompts=32,
        samples=GroupAdvantages(),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        iterations=16,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
