"""The tiny run with two PRMs of another vocabulary than the policy's: one that is trained, at a tag
of its own and in every second iteration, and one that is frozen, on vLLM's pooling engine."""

import os
from dataclasses import replace

from rlstep.config import Config, LearnerConfig, ModelConfig, OptimizerConfig, PoolingConfig
from rlstep.losses.step_label import StepLabelLoss
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.math_shepherd import MathShepherdLayout
from rlstep.scoring.step_models.prm import Prm
from rlstep.scoring.step_models.step_tags import StepTags
from tests.tiny_recipe import config as tiny


def config() -> Config:
    learner = LearnerConfig(
        model=ModelConfig(path=os.environ["TINY_PRM"]),
        head="two_token",
        optimizer=OptimizerConfig(learning_rate=1e-3),
        reference="none",
        threads=1,
    )
    trained = Prm(learner=learner, loss=StepLabelLoss(), layout=StepTags(), every=2)
    frozen = FrozenPrm(
        learner=learner,
        layout=MathShepherdLayout(),
        engine=PoolingConfig(context=128, kv_cache_mib=32),
        source="shepherd",
    )
    return replace(tiny(), name="prms", step_models=(trained, frozen))
