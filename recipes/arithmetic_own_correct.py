"""Fine-tuning on its own correct samples, online: the baseline that preferences have to beat."""

from arithmetic_base import arithmetic

from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.tensors.labels import CorrectOnly


def config() -> Config:
    return arithmetic("arithmetic-own-correct", samples=CorrectOnly(), loss=CrossEntropy())


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
