"""Supervised training on the real stack: killed and resumed it is the training never killed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.run.run_kit import ROOT, finish, make_policy, started, wait_for_a_checkpoint

RECIPE = ROOT / "recipes" / "arithmetic_sft.py"
SMALL = {
    "iterations": "12",
    "updates-per-iteration": "20",
    "evaluation-every": "4",
    "checkpoint-every": "1",
    "examples.updates": "240",
    "examples.batch": "8",
    "examples.problems": "64",
    "learner.optimizer.warmup-updates": "2",
    "learner.optimizer.total-updates": "240",
}


def exported(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / "export").iterdir()}


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "policy")
    options = [word for name, value in SMALL.items() for word in (f"--{name}", value)]
    options += ["--learner.model.path", policy]
    sft = partial(started, policy, tmp_path, *options, verb="sft", recipe=RECIPE)
    with sft("--name", "whole") as process:
        finish(process)
    with sft("--name", "killed") as process:
        wait_for_a_checkpoint(process, tmp_path / "killed")
    assert exported(tmp_path / "killed") == {}
    with sft("--name", "killed", "--resume", "True") as process:
        finish(process)
    whole, killed = (exported(tmp_path / name) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and "model.safetensors" in whole
    assert whole["model.safetensors"] == killed["model.safetensors"]
    assert whole["model.safetensors"] != (Path(policy) / "model.safetensors").read_bytes()
