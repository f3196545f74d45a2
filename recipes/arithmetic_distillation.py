"""On-policy distillation on arithmetic: a teacher's distributions on the policy's own samples.

The teacher is any model with the policy's tokenizer; here the export of an earlier run:

    rlstep train recipes/arithmetic_full_step_dpo.py --name teacher

or another folder, by `--policy.reference-model.path`. Outcomes are verified to be looked at; no
gradient is made of them.
"""

from arithmetic_base import arithmetic, policy

from rlstep.cli import run_recipe
from rlstep.config import Config, ModelConfig
from rlstep.losses.distillation import Distillation
from rlstep.losses.divergence import ReverseKl
from rlstep.tensors.labels import EverySample

TEACHER = "runs/teacher/export"


def config() -> Config:
    return arithmetic(
        "arithmetic-distillation",
        policy=policy(reference="model", reference_model=ModelConfig(path=TEACHER)),
        samples=EverySample(),
        loss=Distillation(divergence=ReverseKl()),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
