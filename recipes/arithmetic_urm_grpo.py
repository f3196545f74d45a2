"""PURE on arithmetic by what is surely good: step scores less their uncertainty.

The PRM (URM) gives a standard deviation with every score; advantages come from a lower bound. In
its place, with the same line around it: `Dropped`, `DownWeighted`, or an `Ensemble` of PRMs.
"""

from arithmetic_base import arithmetic, scalar_learner, with_prm

from rlstep.advantages.pure import Pure
from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.gaussian_label import GaussianLabelLoss
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.scoring.step_models.urm import Urm
from rlstep.uncertainty.penalised import Penalised


def config() -> Config:
    urm = Urm(learner=scalar_learner(), loss=GaussianLabelLoss())
    return arithmetic(
        "arithmetic-urm-grpo",
        samples=Penalised(of=Pure(source=urm.source), source=urm.source, k=0.5),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        **with_prm() | {"step_models": (urm,)},
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
