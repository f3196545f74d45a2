"""GRPO on arithmetic with a teacher beside the verifier: log(teacher / policy) of every token.

The teacher as in arithmetic_distillation.py, by `--step-models.0.learner.model.path`; it only
scores, so that it may be served by vLLM (`Teacher.engine`).
"""

from arithmetic_base import arithmetic
from arithmetic_distillation import TEACHER

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.mixture import Mixture
from rlstep.advantages.teacher import TeacherAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config, LearnerConfig, ModelConfig
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.scoring.step_models.teacher import Teacher


def config() -> Config:
    return arithmetic(
        "arithmetic-teacher-grpo",
        samples=Mixture(
            outcome=GroupAdvantages(), process=TeacherAdvantages(), process_coefficient=0.3
        ),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        step_models=(Teacher(learner=LearnerConfig(model=ModelConfig(path=TEACHER), threads=1)),),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
