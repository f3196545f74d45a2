"""GRPO on arithmetic of rising length: a dial that measured accuracy turns, and DAPO's sampling.

The problems have 4, 6, 8 and 10 operations; the policy was trained on 8. An iteration samples one
length until 85 % of its rollouts are right. Every group without signal is replaced by that of a
further problem of the same length, up to 64 of them.
"""

from dataclasses import replace

from arithmetic_base import TASK, arithmetic

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config, EvaluationConfig
from rlstep.curriculum.level_dial import LevelDial
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.tasks.mixture import Part, TaskMixture

LENGTHS = (4, 6, 8, 10)


def config() -> Config:
    return arithmetic(
        "arithmetic-levels",
        task=TaskMixture(
            parts=tuple(
                Part(
                    name=f"operations-{n}",
                    task=replace(TASK, operations=n, train=1024, evaluation=128),
                )
                for n in LENGTHS
            )
        ),
        curriculum=LevelDial(promote_at=0.85, iterations=1),
        further_prompts=64,
        samples=GroupAdvantages(),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        evaluation=EvaluationConfig(every=4),
        iterations=16,
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
