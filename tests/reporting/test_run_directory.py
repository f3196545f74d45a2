from __future__ import annotations

import errno
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from rlstep.reporting.run_directory import (
    RunDirectory,
    check_no_run,
    check_root,
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
    with pytest.raises(ValueError, match=r"there is no run .*/dmo to resume; .* is --name demo$"):
        RunDirectory.reopen(tmp_path, "dmo")
    with pytest.raises(ValueError, match=r"/none/demo to resume; .*/none has none$"):
        RunDirectory.reopen(tmp_path / "none", "demo")


@pytest.mark.parametrize(
    ("files", "folders", "run"),
    [
        ((), ("checkpoints", "export"), True),  # killed before it wrote anything
        (("config.json",), ("checkpoints", "export"), True),
        (("config.json",), ("checkpoints",), True),
        (("config.json", "metrics.jsonl"), ("checkpoints", "export", "log"), True),
        ((), (), False),
        ((), ("checkpoints",), False),
        ((), ("export",), False),
        (("config.json",), (), False),  # as a model's folder has one
        (("config.json",), ("export",), False),
        (("config.json", "checkpoints"), (), False),
        (("notes.txt",), ("data",), False),
        (("model.safetensors", "config.json"), (), False),
    ],
)
def test_only_a_run_is_resumed(
    files: tuple[str, ...], folders: tuple[str, ...], run: bool, tmp_path: Path
):
    RunDirectory.create(tmp_path, "demo")
    for name in folders:
        (tmp_path / "mine" / name).mkdir(parents=True)
    (tmp_path / "mine").mkdir(exist_ok=True)
    for name in files:
        (tmp_path / "mine" / name).write_text("{}")
    before = everything_under(tmp_path)
    if run:
        assert RunDirectory.reopen(tmp_path, "mine").name == "mine"
    else:
        with pytest.raises(ValueError, match="/mine is no run, and the nearest is --name demo"):
            RunDirectory.reopen(tmp_path, "mine")
    with pytest.raises(ValueError, match="--name mine-2") as taken:
        RunDirectory.create(tmp_path, "mine")
    assert ("resume it with --resume True" in str(taken.value)) == run
    assert everything_under(tmp_path) == before


def test_a_file_of_the_name_is_taken_and_no_run(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match="/mine exists; take another name: --name mine-2"):
        RunDirectory.create(tmp_path, "mine")
    with pytest.raises(ValueError, match=r"/mine is no run, and .* has none"):
        RunDirectory.reopen(tmp_path, "mine")
    assert (tmp_path / "mine").read_text() == "mine"


# --- at the same time ----------------------------------------------------------------------------


def test_a_run_under_way_is_nobody_elses(tmp_path: Path):
    run = RunDirectory.create(tmp_path, "demo")
    with run.hold():
        for other in (run, RunDirectory.reopen(tmp_path, "demo")):
            with pytest.raises(ValueError, match=rf"demo is under way, as process {os.getpid()} "):
                other.hold()
    run.hold().close()  # ended
    run.hold()  # and its file was thrown away, as a process that is killed does
    run.hold().close()


@pytest.mark.parametrize("failed_before", [False, True])
def test_of_runs_that_start_at_the_same_time_one_has_the_name(failed_before: bool, tmp_path: Path):
    if failed_before:
        RunDirectory.create(tmp_path, "demo").summary.write_text('{"failed": true}')
    ready = Barrier(8)

    def start(number: int) -> str:
        ready.wait()
        try:
            run = RunDirectory.create(tmp_path, "demo")
        except ValueError as error:
            return str(error)
        run.config.write_text(str(number))
        return "mine"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(start, range(8)))
    assert said.count("mine") == 1
    assert all("--name demo-2" in each for each in said if each != "mine")
    assert (tmp_path / "demo" / "config.json").read_text() == str(said.index("mine"))
    failed = [path.name for path in tmp_path.glob("demo-*")]
    assert failed == (["demo-failed"] if failed_before else [])


# --- where nothing can be written ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "/file': a file is in the way; choose another place with --run-dir"),
        ("file/runs", "/file': a file is in the way"),
        ("file/runs/deep", "/file': a file is in the way"),
        ("loop/runs", "/loop"),
        ("y" * 300, "': File name too long; choose another place"),
    ],
)
def test_a_place_where_no_run_can_be(place: str, message: str, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = everything_under(tmp_path)
    for make in (RunDirectory.create, lambda root, _: check_root(root)):
        if place.startswith("loop") and make is not RunDirectory.create:
            continue  # nothing of it exists, so that only making it tells
        with pytest.raises(ValueError, match=re.escape(message)):
            make(tmp_path / place, "demo")
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize(
    "number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EIO]
)
def test_a_place_that_takes_nothing(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = RunDirectory.create(tmp_path, "earlier")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    reason = f"{os.strerror(number)}; choose another place with --run-dir or RLSTEP_RUN_DIR"
    with pytest.raises(ValueError, match=re.escape(reason)):
        RunDirectory.create(tmp_path / "runs", "demo")
    with pytest.raises(ValueError, match=re.escape(f"lock': {reason}")):
        run.hold()


def test_a_place_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    check_root(tmp_path / "runs" / "deep")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}': nothing may be written to it; choose"):
        check_root(tmp_path / "runs" / "deep")


def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    run = RunDirectory.create(tmp_path, "demo")
    with run.hold(), run.hold():
        pass


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '{"failed": tr', "\x00\x00"])
def test_a_damaged_summary_is_named(text: str, tmp_path: Path):
    RunDirectory.create(tmp_path, "demo").summary.write_text(text)
    with pytest.raises(ValueError, match=r"demo/summary\.json: (no|a) JSON"):
        RunDirectory.create(tmp_path, "demo")
    assert (tmp_path / "demo" / "summary.json").read_text() == text


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
        directory.measurements.append({"iteration": iteration})
    directory.truncate_after(2)
    assert [row["iteration"] for row in directory.metrics] == [1, 2]
    assert [row["iteration"] for row in directory.measurements] == [1, 2]
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
    match = "give its export: .*demo/export$" if exported else "rlstep export .*demo$"
    with pytest.raises(ValueError, match=match):
        check_no_run(given.format(root=tmp_path), tmp_path)


def test_a_run_without_a_checkpoint_has_no_model_yet(tmp_path: Path):
    """Also one that was killed before it wrote its configuration."""
    run = RunDirectory.create(tmp_path, "demo")
    for given in ("demo", str(run.path), str(run.checkpoints)):
        with pytest.raises(ValueError, match=r"a run's; it has neither an export nor a checkpoint"):
            check_no_run(given, tmp_path)


def test_models_are_let_through(tmp_path: Path):
    run = RunDirectory.create(tmp_path, "demo")
    run.config.write_text("{}")
    (run.export / "model.safetensors").touch()
    check_no_run(str(run.export), tmp_path)
    check_no_run("Qwen/Qwen3-0.6B", tmp_path)
    check_no_run(str(tmp_path / "missing"), tmp_path)
