"""GRPO with a calculator at hand, for a policy whose habit is to reckon by itself.

It goes from left to right, whatever the operators are (see tasks/precedence.py), and is wrong where
a product comes later. In a fifth of its conversations it calls the calculator instead, and is
right: calling pays. Outcomes alone tell it so. A turn is a step; what the calculator answers is
read and not trained.
"""

from dataclasses import replace
from pathlib import Path

from arithmetic_base import arithmetic, policy

from rlstep.advantages.group import GroupAdvantages
from rlstep.cli import run_recipe
from rlstep.config import Config, GeneratorConfig, ModelConfig
from rlstep.environments.tool_use import ToolUse
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.rollouts.conversation import Conversation
from rlstep.steps.turns import Turns
from rlstep.tasks.precedence import Precedence
from rlstep.tools.calculator import Calculator
from rlstep.types import Sampling

POLICY = str(Path(__file__).resolve().parent / "policies" / "arithmetic_tool")
TASK = Precedence()


def config() -> Config:
    return arithmetic(
        "arithmetic-tool-grpo",
        task=TASK,
        policy=replace(policy(), model=ModelConfig(path=POLICY)),
        rollouts=Conversation(
            environment=ToolUse(tools=(Calculator(),)),
            turns=3,  # a call that is broken can be made again
            turn_tokens=48,
            sampling=Sampling(max_tokens=192),  # most of it for what is said of a broken call
        ),
        splitter=Turns(),
        generator=GeneratorConfig(context=256, kv_cache_mib=128),
        iterations=8,
        samples=GroupAdvantages(),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
    )


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
