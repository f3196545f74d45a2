"""Parts of a configuration by their kind."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from rlstep.checks import json_able, parts
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


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(10**40), 1e300, "", "\ud800", [], {}, ["a", [1, {"b": None}]], ("a", ("b",))],
)
def test_what_json_has(value):
    json_able("meta", value)
    json.dumps(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float32(1.0), "meta is of type float32"),
        (np.int32(1), "meta is of type int32"),
        (np.ones(2), "meta is of type ndarray"),
        (np.bool_(True), "meta is of type bool"),
        (b"", "meta is of type bytes"),
        ({1, 2}, "meta is of type set"),
        (date(2026, 1, 2), "meta is of type date"),
        (Decimal("0.1"), "meta is of type Decimal"),
        (Path("a"), "meta is of type PosixPath"),
        (1j, "meta is of type complex"),
        ({"a": [0, b""]}, r"meta\.a\.1 is of type bytes"),
        ([[{"x": object()}]], r"meta\.0\.0\.x is of type object"),
        ({1: "a"}, "meta has the key 1; JSON has only strings as keys"),
        ({"a": {None: 1}}, r"meta\.a has the key None"),
    ],
)
def test_what_json_does_not_have_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        json_able("meta", value)
