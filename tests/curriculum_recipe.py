"""The tiny recipe with prompts by their pass rates, those without signal replaced."""

from dataclasses import replace

from rlstep.config import Config
from rlstep.curriculum.pass_rate_window import PassRateWindow
from tests import tiny_recipe


def config() -> Config:
    return replace(
        tiny_recipe.config(),
        curriculum=PassRateWindow(lowest=0.3, highest=0.7),
        further_prompts=8,
    )
