"""Parts of a configuration by their kind."""

from __future__ import annotations

from dataclasses import replace

from rlstep.checks import parts
from rlstep.config import LearnerConfig
from rlstep.interfaces import JudgeModel
from rlstep.scoring.judges.endpoint import Endpoint
from rlstep.scoring.judges.generator_model import GeneratorModel
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.judges.step_judge import StepJudge
from rlstep.testing.small import small_config
from rlstep.types import Sampling


def test_every_part_wherever_it_stands():
    endpoint, policy = Endpoint(url="http://localhost/v1", model="m"), GeneratorModel()
    config = small_config(
        judges=(OutcomeJudge(model=policy),), labellers=(StepJudge(model=endpoint),)
    )
    assert list(parts(config, JudgeModel)) == [policy, endpoint]
    assert list(parts(replace(config, judges=(), labellers=()), JudgeModel)) == []
    assert list(parts(config, LearnerConfig)) == [config.policy]
    assert list(parts(config.rollouts, Sampling)) == [config.rollouts.sampling]
