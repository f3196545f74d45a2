"""What a run writes down of where its model comes from, with roles of ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlstep.config import Config, LearnerConfig, ModelConfig
from rlstep.reporting.hashing import hash_prompts, hash_weights
from rlstep.reporting.origins import data_of, note, read_versions
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.exports import export_iteration
from rlstep.running.preparing import resume_point
from rlstep.running.run import Run
from rlstep.testing.roles import TOKENIZER
from rlstep.testing.small import small_config
from tests.reporting.made_models import weights


class Policy:
    """Its weights are the number of the export."""

    exports = 0

    async def export(self, directory: str) -> None:
        self.exports += 1
        weights(Path(directory), bytes([9, self.exports]))


def roles() -> Any:
    return SimpleNamespace(
        policy=Policy(),
        sampled=0,
        step_models=(),
        sync=SimpleNamespace(max_parity_error=0.0),
        generators=SimpleNamespace(recoveries=0),
        peaks_gib=no_peaks,
    )


async def no_peaks() -> dict[str, float]:
    return {}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = str(weights(tmp_path / "alice" / "base", b"\x01\x01"))
    return small_config(policy=LearnerConfig(model=ModelConfig(path=path)), sinks=(Files(),))


async def test_a_run_writes_its_origins_and_signs_its_exports(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = config.task.load(TOKENIZER, 64)
    directory = RunDirectory.create(tmp_path / "runs", "first")
    acting, seen = roles(), list[dict[str, Any]]()
    begun, ended = (RunState(iteration=i, versions={"policy": i + 1, "prm": i}) for i in (1, 2))

    async def start(*_: Any) -> Any:
        seen.append(read_versions(directory))  # also what a run leaves whose roles cannot start
        return acting

    async def trained(run: Run, _: RunState) -> RunState:
        await export_iteration(run.roles, directory, begun)
        return ended

    monkeypatch.setattr(Run, "_start_roles", start)
    monkeypatch.setattr(Run, "_train", trained)
    monkeypatch.setattr(Run, "_evaluate", lambda *_: _nothing())
    run = Run(
        *(config, TOKENIZER, prompts, directory, Checkpoints(directory.checkpoints), None),
        recipe_name="mine",
    )
    await run.run()
    train = {"sha256": hash_prompts(prompts.train), "prompts": 8}
    assert seen[0]["recipe"] == "mine" and seen[0]["data"]["train"] == train
    assert "methods" in seen[0] and "models" not in seen[0]
    base = {"name": "base", "sha256": hash_weights(Path(config.policy.model.path))}
    assert read_versions(directory)["models"] == {"policy": base}
    for folder, state in ((directory.export_of(1), begun), (directory.export, ended)):
        said = json.loads((folder / "lineage.json").read_text())
        assert said["sha256"] == hash_weights(folder) and said["parents"] == {"policy": base}
        assert (said["iteration"], said["versions"]) == (state.iteration, state.versions)
        assert (folder / "README.md").exists()
    assert [line["iteration"] for line in directory.models] == [1, 2]


async def _nothing() -> None: ...


async def test_other_training_problems_are_refused_before_anything_starts(
    tmp_path: Path, config: Config
) -> None:
    prompts = config.task.load(TOKENIZER, 64)
    directory = RunDirectory.create(tmp_path / "runs", "first")
    note(directory, data=data_of(config.task, prompts))
    assert resume_point(config, directory, prompts) is None
    fewer = replace(prompts, train=prompts.train[:4])
    with pytest.raises(ValueError, match="4 training problems"):
        resume_point(config, directory, fewer)
