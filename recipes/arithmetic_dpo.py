"""Iterative outcome DPO on arithmetic: right answers against wrong ones, steps unseen."""

from arithmetic_base import arithmetic

from rlstep.cli import run_recipe
from rlstep.config import Config
from rlstep.losses.dpo import Dpo
from rlstep.pairs.outcome import OutcomePairs


def config() -> Config:
    return arithmetic("arithmetic-dpo", samples=OutcomePairs(), loss=Dpo(beta=0.1))


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
