"""What a dry run looks at beside the configuration. Services are servers of this machine."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlstep.cli import load_recipe, run_recipe
from rlstep.commands import preflight as module
from rlstep.commands.plan import parameters
from rlstep.commands.preflight import bytes_of_files, preflight
from rlstep.config import Config, EvaluationConfig, LearnerConfig, ModelConfig
from rlstep.interfaces import RunStart, Sink
from rlstep.optimizers.sgd_sai import SgdSai
from rlstep.reporting.describe import describe_config
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.console import Console
from rlstep.reporting.sinks.files import Files
from rlstep.reporting.sinks.mlflow import MLflow
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.run import prepare
from rlstep.scoring.judges.endpoint import Endpoint
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.rewards.remote_scores import RemoteScores
from rlstep.scoring.step_models.teacher import Teacher
from rlstep.tasks.jsonl import Jsonl
from tests.running.test_access import running_cluster


def wrong(config: Config) -> str:
    """The one thing that is wrong."""
    _, problems = preflight(config)
    assert len(problems) == 1, problems
    return problems[0]


def found(config: Config) -> dict[str, str]:
    texts, problems = preflight(config)
    assert problems == []
    return dict(texts)


def test_what_is_well_is_said_and_nothing_is_written(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_recipe(lambda: config, ["--dry-run"]) == 0
    printed = capsys.readouterr().out
    for text in ("models and data: 8 problems, 2 held out", "/runs/small, a new one", "bytes free"):
        assert text in printed
    assert not (tmp_path / "runs").exists()


# --- sinks ---------------------------------------------------------------------------------------


def test_the_sinks_are_named(config: Config) -> None:
    assert found(config)["sinks"] == "Page, Files, Wandb, Console"


class Refusing(Sink):
    """Like a sink whose package is missing."""

    def check(self) -> None:
        raise ValueError("it is not installed: pip install it")

    def open(self, start: RunStart) -> Any:
        raise AssertionError("nothing is opened")


@pytest.mark.parametrize(
    ("sinks", "message"),
    [
        ((), r"sinks has no Files\(\), .*; add it"),
        (
            (Console(),),
            r"sinks has no Files\(\), .*; add it: sinks=\(Files\(\), \*\(Console\(\),\)\)",
        ),
        ((Files(), Refusing()), r"Refusing: .*it is not installed: pip install it.*test_preflight"),
        ((Files(), MLflow()), r"MLflow"),
    ],
)
def test_a_sink_that_cannot_work_is_refused_before_a_run(
    config: Config, sinks: tuple[Sink, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = replace(config, sinks=sinks)
    assert re.search(message, wrong(config))
    with pytest.raises(ValueError, match=message):
        prepare(config)
    assert not Path(config.run_dir).exists()


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere/policy", "policy: model.path is '/nowhere/policy', and there is no such folder"),
        ("./nowhere", "model.path is './nowhere', and there is no such folder"),
        ("{tmp}/polcy", "did you mean '{tmp}/policy'?"),
        ("{tmp}/policy", "model.path is '{tmp}/policy', a folder without a model"),
    ],
)
def test_a_wrong_model(
    path: str, message: str, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy").mkdir()
    given = ["--policy.model.path", path.replace("{tmp}", str(tmp_path)), "--dry-run"]
    assert run_recipe(lambda: config, given) == 2
    assert message.replace("{tmp}", str(tmp_path)) in capsys.readouterr().err


def test_a_run_is_no_teacher(config: Config, tmp_path: Path) -> None:
    """Its export is; also of a step model."""
    run = RunDirectory.create(Path(config.run_dir), "earlier")
    run.config.write_text(json.dumps(describe_config(config)))
    path = ModelConfig(path=str(run.path))
    policy = replace(config.policy, reference="model", reference_model=path)
    assert f"model.path {path.path!r} is no model but a run's" in wrong(
        replace(config, policy=policy)
    )
    teacher = Teacher(learner=LearnerConfig(model=path))
    assert "is no model but a run's" in wrong(replace(config, step_models=(teacher,)))


def test_a_teacher_of_the_hub_is_not_asked_for(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    teacher = ModelConfig(path="owner/teacher")
    policy = replace(config.policy, reference="model", reference_model=teacher)
    said = found(replace(config, policy=policy))["models and data"]
    assert said == "owner/teacher: not on this machine; from the hub, at the start"


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet", "jsonl.gz"])
@pytest.mark.parametrize("field", ["path", "evaluation"])
def test_a_wrong_file_of_data(field: str, suffix: str, config: Config, tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text("".join(json.dumps({"prompt": f"{n}+1", "answer": "3"}) + "\n" for n in "1234"))
    paths: dict[str, Any] = {"path": str(good), field: str(tmp_path / f"none.{suffix}")}
    assert "none." + suffix in wrong(replace(config, task=Jsonl(**paths)))
    hub = LearnerConfig(model=ModelConfig(path="someone/some-model"))
    problem = wrong(replace(config, task=Jsonl(**paths), policy=hub))
    assert problem == f"task.{field} is {paths[field]!r}, and there is no such file"


def test_a_recipe_for_models_of_the_hub_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    tried: list[str] = []

    def refuse(*address: Any, **_: Any) -> None:
        tried.append(repr(address))
        raise OSError("there is no network")

    for owner, name in (
        (socket.socket, "connect"),
        (socket, "create_connection"),
        (socket, "getaddrinfo"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("RLSTEP_RUN_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    recipe = Path(__file__).parents[2] / "recipes" / "gsm8k_full_step_dpo.py"
    assert run_recipe(lambda: load_recipe(str(recipe)), ["--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "Qwen/Qwen2.5-0.5B-Instruct, openai/gsm8k: not on this machine" in out
    assert tried == []


def test_a_folder_beside_a_model_of_the_hub_is_looked_at(config: Config) -> None:
    hub = LearnerConfig(model=ModelConfig(path="someone/some-model"))
    assert "not on this machine" in found(replace(config, policy=hub))["models and data"]


# --- the run's place, and the disk ---------------------------------------------------------------


def test_a_name_that_is_taken(config: Config, tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "runs", "small")
    assert wrong(config).endswith("or take another name: --name small-2")


async def resumable(config: Config, *iterations: int) -> Config:
    run = RunDirectory.create(config.run_dir, config.name)
    run.config.write_text(json.dumps(describe_config(config)))
    for iteration in iterations:
        async with Checkpoints(run.checkpoints).writing(RunState(iteration=iteration)) as folder:
            (folder / "policy").mkdir()
    return replace(config, resume=True)


async def test_where_a_run_would_go_on(config: Config) -> None:
    again = await resumable(config, 1, 2)
    text = found(again)["run"]
    assert text.startswith("goes on after iteration 2 of 3: ") and text.endswith("iteration-000002")


async def test_the_newest_that_is_whole(config: Config) -> None:
    again = await resumable(config, 1, 2)
    (Path(config.run_dir) / "small/checkpoints/iteration-000002/state.json").write_text("{}")
    assert "goes on after iteration 1 of 3" in found(again)["run"]
    (Path(config.run_dir) / "small/checkpoints/iteration-000001/state.json").write_text("{}")
    assert "has no valid checkpoint" in wrong(again)


async def test_a_run_without_a_checkpoint_starts_over(config: Config) -> None:
    assert found(await resumable(config))["run"].endswith("no checkpoint: it starts over")


async def test_what_may_not_change_on_resume(config: Config) -> None:
    again = await resumable(config, 1)
    assert "resume: seed is 5, and was 0" in wrong(replace(again, seed=5))


async def test_what_changes_on_resume_is_said(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    again = replace(await resumable(config, 1), iterations=9, checkpoint_keep=4)
    run = prepare(again)
    run.held.close()
    said = "resumed with iterations 9 (was 3), checkpoint_keep 4 (was 2)\n"
    assert said in capsys.readouterr().out and run.checkpoints.keep == 4


def test_no_run_to_resume(config: Config) -> None:
    assert "there is no run" in wrong(replace(config, resume=True))


def test_a_full_disk(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    need = bytes_of_files(config)
    assert need is not None
    monkeypatch.setattr(module, "free_bytes", lambda path: need)
    assert f"exports need {need:,}" in found(config)["disk"]
    monkeypatch.setattr(module, "free_bytes", lambda path: need - 1)
    assert f"has {need - 1:,} bytes free, and checkpoints and exports need {need:,}" in wrong(
        config
    )


def test_bytes_of_checkpoints_and_exports(config: Config, model: str) -> None:
    sizes = parameters(ModelConfig(path=model))
    assert sizes is not None
    n = sizes[0]
    # Three checkpoints of weights and two moments, 4 + 8 bytes; the export at the end is 4.
    assert bytes_of_files(config) == n * (3 * 12 + 4)
    # Of 3 iterations the first two are exported, and the end.
    assert bytes_of_files(replace(config, export_every=1)) == n * (3 * 12 + 3 * 4)
    best = EvaluationConfig(best="eval/accuracy")
    assert bytes_of_files(replace(config, evaluation=best)) == n * (3 * 12 + 2 * 4)
    assert bytes_of_files(replace(config, iterations=0)) == 0
    half = LearnerConfig(model=ModelConfig(path=model, dtype="bfloat16"))
    assert bytes_of_files(replace(config, policy=half)) == n * (3 * 14 + 2)
    light = replace(config.policy, optimizer=SgdSai())  # one moment
    assert bytes_of_files(replace(config, policy=light)) == n * (3 * 8 + 4)


def test_a_place_that_is_a_file(config: Config, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    assert any("a file is in the way; choose" in problem for problem in preflight(config)[1])


# --- services and ports --------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """405, as services do that know POST alone."""

    def do_HEAD(self) -> None:
        self.send_error(405)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/v1"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield f"http://127.0.0.1:{one.getsockname()[1]}/v1"


def asking(config: Config, url: str, kind: str) -> Config:
    if kind == "labeller":
        return replace(config, labellers=(RemoteScores(url=url),))
    return replace(config, judges=(OutcomeJudge(model=Endpoint(url=url, model="m")),))


@pytest.mark.parametrize("kind", ["labeller", "judge"])
def test_a_service_that_answers(kind: str, config: Config, service: str) -> None:
    name = "remotescores.url" if kind == "labeller" else "endpoint.url"
    assert found(asking(config, service, kind))[name] == f"{service} answers"


@pytest.mark.parametrize("kind", ["labeller", "judge"])
def test_a_service_that_is_not_there(kind: str, config: Config, nobody: str) -> None:
    assert f"url is {nobody!r}, which does not answer within" in wrong(asking(config, nobody, kind))


def test_a_service_that_says_nothing(
    config: Config, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    assert "which does not answer within 0.05 s" in wrong(asking(config, silent, "labeller"))


def test_a_cluster_that_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_cluster(asks=True) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert found(config)["ports"] == f"the cluster at {address} answers who has its token"
    assert "does not answer" in wrong(config)
    with running_cluster(asks=False) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert "answers without a token" in wrong(config)
    monkeypatch.setenv("RAY_ADDRESS", "head")
    assert "it is like '127.0.0.1:6379'" in wrong(config)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "the nearest valid value is 'token'" in wrong(config)


def test_no_port_to_listen_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no port is left")

    monkeypatch.setattr(module.socket.socket, "bind", refuse)
    assert wrong(config) == "ports: the system gives none to listen on: no port is left"
