"""GRPO on logic of rising difficulty: a dial that measured accuracy turns, and DAPO's sampling.

An iteration samples problems of two premises until 90 % of its rollouts are right, then those of
three. Every group without signal is replaced by that of a further problem of the same level, up to
32 of them. The policy is that of `logic_process_grpo.py`.
"""

from dataclasses import replace

import logic_process_grpo

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.curriculum.level_dial import LevelDial
from rlstep.tasks.mixture import Part, TaskMixture

LEVELS = TaskMixture(
    parts=tuple(
        Part(
            name=f"premises-{n}", task=replace(logic_process_grpo.TASK, premises=n, evaluation=256)
        )
        for n in (2, 3)
    )
)


def config() -> Config:
    return replace(
        logic_process_grpo.config(),
        name="logic-levels",
        task=LEVELS,
        curriculum=LevelDial(promote_at=0.9, iterations=1),
        further_prompts=32,
        samples=GroupAdvantages(),
        labellers=(),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
