from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlstep.reporting.run_directory import (
    RunDirectory,
    check_no_run,
    check_run_name,
    default_root,
    find_run,
    free_name,
)

BAD_NAMES = [
    "",
    "   ",
    ".",
    "..",
    "../x",
    "/etc/x",
    "a/b",
    "a\\b",
    "a..b",
    "nul\0byte",
    "line\nbreak",
    "escape\x1b[31m",
    "right-to-left\u202e",
    "lone-surrogate-\udcff",
    "x" * 201,
    "ü" * 101,
    "x" * 4096,
    "~",
    "~root",
    "-rf",
    ".hidden",
    " padded ",
]


def everything_under(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_and_writes_nothing(tmp_path: Path, name: str):
    root = tmp_path / "runs"
    for make in (RunDirectory.create, RunDirectory.reopen):
        with pytest.raises(ValueError, match=r"run name .*; a valid name is '") as refusal:
            make(root, name)
        check_run_name(str(refusal.value).rpartition(" is ")[2].strip("'"))
    assert everything_under(tmp_path) == []


@pytest.mark.parametrize("name", ["demo", "gsm8k 0.5B", "größe=2", "x" * 200, "ü" * 100, "a.b-c_d"])
def test_a_good_name_is_taken(tmp_path: Path, name: str):
    directory = RunDirectory.create(tmp_path / "runs", name)
    assert directory.name == name and directory.path.parent == tmp_path / "runs"
    assert directory.checkpoints.is_dir() and directory.export.is_dir()
    assert RunDirectory.reopen(tmp_path / "runs", name) == directory


def test_a_taken_name_and_a_missing_run_are_refused(tmp_path: Path):
    RunDirectory.create(tmp_path, "demo")
    with pytest.raises(ValueError, match=r"exists; resume it .*another name: --name demo-2"):
        RunDirectory.create(tmp_path, "demo")
    with pytest.raises(ValueError, match="there is no run"):
        RunDirectory.reopen(tmp_path, "other")


def test_a_link_out_of_the_root_is_refused(tmp_path: Path):
    root, outside = tmp_path / "runs", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "demo").symlink_to(outside)
    for make in (RunDirectory.create, RunDirectory.reopen):
        with pytest.raises(ValueError, match="link out of"):
            make(root, "demo")
    assert everything_under(outside) == []


def test_cutting_a_run_back(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "demo")
    for iteration in (1, 2, 3):
        directory.metrics.append({"iteration": iteration})
        directory.rollouts.append({"iteration": iteration}, {"iteration": iteration})
    directory.truncate_after(2)
    assert [row["iteration"] for row in directory.metrics] == [1, 2]
    assert [row["iteration"] for row in directory.rollouts] == [1, 1, 2, 2]


def test_runs_live_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLSTEP_RUN_DIR", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert default_root() == tmp_path / "runs"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert default_root() == Path.home() / "runs"
    monkeypatch.setenv("RLSTEP_RUN_DIR", "/data/runs")
    assert default_root() == Path("/data/runs")
    monkeypatch.setenv("RLSTEP_RUN_DIR", "runs")
    with pytest.raises(ValueError, match="RLSTEP_RUN_DIR is 'runs'; it must be absolute"):
        default_root()


def test_a_run_is_found_by_its_name_and_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "runs"
    run = RunDirectory.create(root, "first")
    with pytest.raises(ValueError, match="has none; give the run's folder"):
        find_run("first", root)  # a folder in which nothing was run
    run.config.write_text("{}")
    assert find_run("first", root) == run == find_run(str(run.path), tmp_path)
    monkeypatch.chdir(root)
    assert find_run("first", tmp_path).path.resolve() == run.path
    with pytest.raises(ValueError, match=r"the nearest in .* is 'first' \(the newest is 'first'"):
        find_run("frist", root)


def test_what_is_there_and_is_no_run_is_named_as_such(tmp_path: Path):
    RunDirectory.create(tmp_path, "first").config.write_text("{}")
    (tmp_path / "halfway").mkdir()
    (tmp_path / "halfway" / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "notes").write_text("")
    nearest = "; the nearest in .* is 'first'"
    for run in ("halfway", str(tmp_path / "halfway")):
        with pytest.raises(ValueError, match=f"halfway is no run: it has no config.json{nearest}"):
            find_run(run, tmp_path)
    with pytest.raises(ValueError, match=f"notes is no run: it is a file{nearest}"):
        find_run("notes", tmp_path)
    for run in ("", " ", "nope"):
        with pytest.raises(ValueError, match=f"no such run or folder{nearest}"):
            find_run(run, tmp_path)


@pytest.mark.parametrize(
    ("summary", "checkpoint", "free"),
    [
        ({"failed": True, "iterations": 0}, False, True),
        ({"failed": True, "iterations": 3}, False, False),
        ({"failed": True, "iterations": 0}, True, False),
        ({"failed": False, "iterations": 0}, False, False),
        (None, False, False),
    ],
    ids=["failed at its start", "failed later", "has a checkpoint", "ended well", "under way"],
)
def test_only_a_run_that_failed_at_its_start_leaves_its_name(
    summary: dict[str, object] | None, checkpoint: bool, free: bool, tmp_path: Path
):
    first = RunDirectory.create(tmp_path, "demo")
    if summary is not None:
        first.summary.write_text(json.dumps(summary))
    if checkpoint:
        (first.checkpoints / "iteration-000001").mkdir()
    (first.path / "log").mkdir()
    if not free:
        with pytest.raises(ValueError, match="--name demo-2"):
            RunDirectory.create(tmp_path, "demo")
        return
    second = RunDirectory.create(tmp_path, "demo")
    assert not second.summary.exists() and not (second.path / "log").exists()
    assert (tmp_path / "demo-failed" / "log").is_dir()
    second.summary.write_text(json.dumps(summary))
    RunDirectory.create(tmp_path, "demo")
    assert (tmp_path / "demo-failed-2").is_dir()


def test_the_nearest_free_name(tmp_path: Path):
    assert free_name(tmp_path, "demo") == "demo"
    for taken in ("demo", "demo-2", "demo-4"):
        (tmp_path / taken).mkdir()
    assert free_name(tmp_path, "demo") == "demo-3"


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        "demo",
        "{root}/demo",
        "{root}/demo/checkpoints",
        "{root}/demo/checkpoints/iteration-000001",
        "{root}/demo/checkpoints/iteration-000001/policy",
    ],
)
def test_a_run_or_a_checkpoint_is_no_model(given: str, exported: bool, tmp_path: Path):
    run = RunDirectory.create(tmp_path, "demo")
    run.config.write_text("{}")
    (run.checkpoints / "iteration-000001" / "policy").mkdir(parents=True)
    if exported:
        (run.export / "model.safetensors").touch()
    match = "give its run's: .*demo/export" if exported else "rlstep export .*demo$"
    with pytest.raises(ValueError, match=match):
        check_no_run(given.format(root=tmp_path), tmp_path)


def test_models_are_let_through(tmp_path: Path):
    run = RunDirectory.create(tmp_path, "demo")
    run.config.write_text("{}")
    (run.export / "model.safetensors").touch()
    check_no_run(str(run.export), tmp_path)
    check_no_run("Qwen/Qwen3-0.6B", tmp_path)
    check_no_run(str(tmp_path / "missing"), tmp_path)
