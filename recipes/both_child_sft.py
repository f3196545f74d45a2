r"""Makes a child of the joint policy's base: fine-tuned on careful solutions of one task alone.

rlstep sft recipes/both_child_sft.py                                          arithmetic
rlstep sft recipes/both_child_sft.py --name both-logic --examples.tasks logic \
    --examples.updates 600 --iterations 12 \
    --learner.optimizer.total-updates 600 --learner.optimizer.learning-rate 1e-3

It solves that task more often than the base, and the other one less often: what it forgot and
what it learnt are what `rlstep merge` has to tell apart.
"""

from dataclasses import replace

from both_base import BASE
from both_sft import Worked
from sft_base import RandomLlama, made_policy

from rlstep.cli import run_recipe
from rlstep.config import ModelConfig
from rlstep.fit_config import FitConfig

UPDATES = 150


def config() -> FitConfig:
    examples = Worked(tasks=("arithmetic",), updates=UPDATES, sloppy=0.0)
    unused = RandomLlama(tokenizer="both_base.both_tokenizer")
    made = made_policy("both-arithmetic", examples, unused, UPDATES, learning_rate=5e-4)
    optimizer = replace(made.learner.optimizer, warmup_updates=10)
    learner = replace(made.learner, model=ModelConfig(path=BASE), optimizer=optimizer)
    return replace(made, learner=learner, start=None, evaluation_every=1)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
