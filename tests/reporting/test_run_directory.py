from __future__ import annotations

from pathlib import Path

import pytest

from rlstep.reporting.run_directory import (
    RunDirectory,
    check_run_name,
    default_root,
    find_run,
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
    with pytest.raises(ValueError, match="exists; resume it, or take another name: demo-2"):
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
