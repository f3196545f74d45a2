"""Runs that wrote models, by the writers that a run uses, with weights of a few bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlstep.config import Config, LearnerConfig, ModelConfig
from rlstep.interfaces import PromptSet
from rlstep.reporting.card import sign
from rlstep.reporting.origins import data_of, methods, note, note_models
from rlstep.reporting.run_directory import RunDirectory
from rlstep.testing.small import small_config
from tests.builders import make_prompt
from tests.reporting.recorded import ITERATIONS, record_run
from tests.reporting.test_hashing import TENSORS, write

PROMPTS = PromptSet(train=[make_prompt("a"), make_prompt("b")], evaluation=[make_prompt("c")])


def weights(folder: Path, first: bytes) -> Path:
    """A model's folder, whose first tensor has these two bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "model.safetensors", {**TENSORS, "a": first})
    return folder


def made_run(root: Path, name: str, begins_with: Path, gives: bytes, **fields: Any) -> RunDirectory:
    """A complete run of three iterations that began with a folder's model and exported another."""
    policy = LearnerConfig(model=ModelConfig(path=str(begins_with)))
    config: Config = small_config(name=name, policy=policy, run_dir=str(root), **fields)
    run = record_run(root, name, config=config)
    note(run, recipe=f"{name}_recipe", methods=methods(config))
    note(run, data=data_of(config.task, PROMPTS))
    note_models(run, config)
    weights(run.export, gives)
    sign(run.export, run, ITERATIONS, {"policy": 4})
    return run


def of_an_earlier_version(run: RunDirectory) -> RunDirectory:
    """The run as a version left it that kept no hashes."""
    versions = '{"python": "3.11.9", "packages": {"rlstep": "0.1"}, "git": null}'
    run.versions.write_text(versions)
    for file in (run.models.path, run.export / "lineage.json", run.export / "README.md"):
        file.unlink()
    return run
