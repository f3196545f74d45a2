"""What a run came from: names and hashes, and never a path."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlstep.config import LearnerConfig, ModelConfig
from rlstep.interfaces import PromptSet
from rlstep.losses.step_label import StepLabelLoss
from rlstep.reporting.hashing import hash_prompts, hash_weights
from rlstep.reporting.origins import (
    check_same_data,
    data_of,
    is_hub_id,
    methods,
    model_entry,
    models_of,
    name_of,
    note,
    note_models,
    read_versions,
)
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.scoring.step_models.prm import Prm
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.tasks.jsonl import Jsonl
from rlstep.testing.small import small_config
from tests.builders import make_prompt
from tests.reporting.test_hashing import TENSORS, write


def model(folder: Path, first: bytes = b"\x01\x02") -> str:
    write(folder / "model.safetensors", {**TENSORS, "a": first})
    return str(folder)


def test_names_say_what_it_is_and_not_where(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "alice" / "runs", "first")
    run.export_of(7).mkdir(parents=True)
    assert name_of(str(run.export)) == "first/export"
    assert name_of(str(run.export_of(7))) == "first/exports/iteration-000007"
    assert name_of(str(tmp_path / "alice" / "models" / "mine")) == "mine"  # gone by now
    (tmp_path / "here").mkdir()
    assert name_of(str(tmp_path / "here")) == name_of(f"{tmp_path}/here/") == "here"
    assert name_of("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B" and name_of("gpt2") == "gpt2"
    assert name_of("~/models/x") == "x" and name_of("a/b/c") == "c"
    secret = "hf_" + 20 * "a"
    assert secret not in name_of(f"/data/{secret}") and "\n" not in name_of("/data/a\nb")


def test_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_hub_id("openai/gsm8k") and is_hub_id("gpt2")
    assert not any(map(is_hub_id, ("/a/b", "./a", "a/b/c", "", "..", "a b")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert not is_hub_id("gpt2")


def test_every_plug_in_is_a_method_with_its_papers() -> None:
    learner = LearnerConfig(model=ModelConfig(path="m"), head="token_classification")
    prm = Prm(learner=learner, loss=StepLabelLoss())
    config = small_config(labellers=(MonteCarlo(),), step_models=(prm,))
    found = {entry["part"]: entry for entry in methods(config)}
    assert found["step_models.0"]["class"] == "Prm"
    assert found["loss"]["papers"] and found["loss"]["about"]
    assert {"task", "samples", "rollouts", "splitter", "step_models.0.loss"} <= found.keys()
    assert not any(part.startswith("sinks") for part in found)


def test_models_by_role_and_each_folder_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = model(tmp_path / "policy"), model(tmp_path / "prm", b"\x09\x09")
    read: list[Path] = []

    def counted(folder: Path) -> str:
        read.append(folder)
        return hash_weights(folder)

    monkeypatch.setattr("rlstep.reporting.origins.hash_weights", counted)
    first = ModelConfig(path=path)
    learner = LearnerConfig(model=ModelConfig(path=other), head="token_classification")
    policy = LearnerConfig(model=first, reference="model", reference_model=first)
    prm = Prm(learner=learner, loss=StepLabelLoss())
    config = small_config(policy=policy, labellers=(MonteCarlo(),), step_models=(prm,))
    found = models_of(config)
    assert found == {
        "policy": {"name": "policy", "sha256": hash_weights(Path(path))},
        "policy.reference_model": {"name": "policy", "sha256": hash_weights(Path(path))},
        "prm": {"name": "prm", "sha256": hash_weights(Path(other))},
    }
    assert read == [Path(path), Path(other)]


def test_what_cannot_be_hashed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickled").mkdir()
    assert model_entry(str(tmp_path / "pickled")) == {
        "name": "pickled",
        "unknown": "pickled has no weights in safetensors",
    }
    gone = "its weights are not on the machine that the run was led by"
    assert model_entry("owner/never-loaded")["unknown"] == gone
    assert model_entry(str(tmp_path / "gone"))["unknown"] == gone
    snapshot = tmp_path / "snapshots" / "abc123"
    snapshot.parent.mkdir()
    sha256 = hash_weights(Path(model(snapshot)))
    cached = str(snapshot / "config.json")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: cached)
    entry = {"name": "owner/model", "revision": "abc123", "sha256": sha256}
    assert model_entry("owner/model") == entry


def test_data_by_name_and_by_what_was_loaded() -> None:
    prompts = [make_prompt("a"), make_prompt("b")]
    loaded = PromptSet(train=prompts, evaluation=prompts[:1])
    rows = Jsonl(path="/home/alice/rows.jsonl")
    assert data_of(rows, loaded) == {
        "name": "Jsonl",
        "from": ["rows.jsonl"],
        "train": {"sha256": hash_prompts(prompts), "prompts": 2},
        "evaluation": {"sha256": hash_prompts(prompts[:1]), "prompts": 1},
    }
    assert data_of(Arithmetic()) == {"name": "Arithmetic", "from": []}


# --- versions.json -------------------------------------------------------------------------------


def test_what_a_resumed_run_began_with_stands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory.create(tmp_path, "first")
    path = model(tmp_path / "policy")
    config = small_config(policy=LearnerConfig(model=ModelConfig(path=path)))
    note(run, started="then")
    note_models(run, config)
    began = read_versions(run)
    assert began["started"] == "then" and "sha256" in began["models"]["policy"]
    note_models(run, config)
    assert read_versions(run) == began and not caplog.records
    model(tmp_path / "policy", b"\x00\x00")
    with caplog.at_level(logging.WARNING):
        note_models(run, config)
    assert read_versions(run) == began
    assert "policy: the weights of 'policy' are not those that the run began with" in caplog.text
    assert str(tmp_path) not in run.versions.read_text()


def test_a_broken_file_is_said_and_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory.create(tmp_path, "first")
    assert read_versions(run) == {}
    run.versions.write_text('{"started": ')
    note(run, recipe="mine")
    assert read_versions(run) == {"recipe": "mine"} and "it is written anew" in caplog.text


def test_other_problems_are_refused_on_resume(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "first")
    prompts = [make_prompt("a"), make_prompt("b")]
    loaded = PromptSet(train=prompts, evaluation=[])
    check_same_data(run, loaded)  # of an earlier version: nothing to compare with
    note(run, data=data_of(Arithmetic(), loaded))
    check_same_data(run, loaded)
    changed: list[Any] = [prompts[::-1], prompts[:1], [replace(prompts[0], answer="43")]]
    for train in changed:
        with pytest.raises(ValueError, match=r"are not the 2 that the run began with \("):
            check_same_data(run, replace(loaded, train=train))
    run.versions.write_text(json.dumps({"data": {"name": "x"}}))
    check_same_data(run, loaded)
