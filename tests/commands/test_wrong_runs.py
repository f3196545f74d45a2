"""Runs that are named where they cannot be meant: refused in one line, nothing started or lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlstep.cli import load_recipe, run_recipe
from rlstep.config import Config
from rlstep.reporting.describe import describe_config
from rlstep.reporting.run_directory import RunDirectory
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.run import Run, prepare


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """What was started in place of roles."""
    runs: list[Run] = []

    async def start(run: Run) -> dict[str, Any]:
        runs.append(run)
        return {"complete": True}

    monkeypatch.setattr(Run, "run", start)
    return runs


async def make(config: Config, *iterations: int, **summary: Any) -> RunDirectory:
    """A run as one that trained left it."""
    run = RunDirectory.create(config.run_dir, config.name)
    run.config.write_text(json.dumps(describe_config(config)))
    if summary:
        run.summary.write_text(json.dumps(summary))
    for iteration in iterations:
        async with Checkpoints(run.checkpoints).writing(RunState(iteration=iteration)) as folder:
            (folder / "policy").mkdir()
    return run


def everything(config: Config) -> dict[str, bytes]:
    files = Path(config.run_dir).rglob("*")
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in files}


# --- a run in place of a recipe ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "saved", "exported", "message"),
    [
        ("small", (), "", "it has neither an export nor a checkpoint yet"),
        ("{run}", (), "", "it has neither an export nor a checkpoint yet"),
        ("small", (3,), "", "make one of its newest checkpoint: rlstep export {run}"),
        ("{run}/checkpoints", (3,), "", "rlstep export {run}"),
        ("{run}/checkpoints/iteration-000003", (3,), "", "rlstep export {run}"),
        ("{run}/checkpoints/iteration-000003/policy", (3,), "", "rlstep export {run}"),
        ("{run}/config.json", (3,), "", "rlstep export {run}"),
        ("small", (3,), "export", "give its export: {run}/export"),
        ("{run}/export", (3,), "export", "give its export: {run}/export"),
        ("small", (3,), "exports/iteration-000002", "its export: {run}/exports/iteration-000002"),
    ],
)
async def test_a_run_is_no_recipe(
    given: str,
    saved: tuple[int, ...],
    exported: str,
    message: str,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = await make(config, *saved)
    if exported:
        (run.path / exported).mkdir(parents=True, exist_ok=True)
        (run.path / exported / "model.safetensors").touch()
    monkeypatch.setenv("RLSTEP_RUN_DIR", config.run_dir)
    with pytest.raises(ValueError, match="a run is no recipe") as refused:
        load_recipe(given.format(run=run.path))
    for text in (message.format(run=run.path), "rlstep train RECIPE --name small --resume True"):
        assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recipe_beside_runs_is_a_recipe(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of a project may hold folders of these names."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = Path(config.run_dir)
    for name in ("checkpoints", "export"):
        (root / name).mkdir(parents=True)
    recipe = root / "mine_of_a_project.py"
    recipe.write_text("from rlstep.testing.small import small_config as config\n")
    assert load_recipe(str(recipe)).name == "small"


# --- what cannot go on ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "fields", "message"),
    [
        (None, {"name": "smal"}, "there is no run {root}/smal to resume; the nearest is --name s"),
        (None, {"run_dir": "{root}/none"}, "to resume; {root}/none has none"),
        (None, {"iterations": 2}, "resume: iterations is 2, and the run has done 3; the smallest"),
        (None, {"seed": 5}, "resume: seed is 5, and was 0"),
        (
            "checkpoints/iteration-000003/state.json",
            {},
            "small/checkpoints has no valid checkpoint",
        ),
        ("checkpoints/iteration-000003/manifest.json", {}, "has no valid checkpoint"),
        ("config.json", {}, "{root}/small/config.json: no JSON"),
        ("probe.jsonl", {}, "{root}/small/probe.jsonl"),
        ("summary.json", {}, "{root}/small/summary.json: no JSON"),
    ],
)
async def test_a_run_that_cannot_go_on(
    spoil: str | None,
    fields: dict[str, Any],
    message: str,
    config: Config,
    started: list[Run],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = await make(config, 3)
    if spoil:
        (run.path / spoil).write_text('{"half": "wri\n')
    before, root = everything(config), config.run_dir
    fields = {
        name: str(v).format(root=root) if name == "run_dir" else v for name, v in fields.items()
    }
    again = replace(config, resume=True, **fields)
    # As the command does, in a thread of its own: this test has a loop already.
    status = await in_thread(lambda: run_recipe(lambda: again, []))
    err = capsys.readouterr().err
    assert status == 2 and not started, err
    assert err.splitlines()[-1].startswith("rlstep: ") and message.format(root=root) in err
    after = everything(config)
    after.pop(f"{root}/small/lock", None)
    assert after == before


async def in_thread(call: Callable[[], int]) -> int:
    import asyncio

    return await asyncio.to_thread(call)


async def test_a_complete_run_goes_on_with_more_iterations(
    config: Config, started: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    await make(config, 3, complete=True, iterations=3, failed=False)
    again = replace(config, resume=True)
    assert await in_thread(lambda: run_recipe(lambda: again, [])) == 2
    assert "has done 3 and is complete; the smallest valid value is 4" in capsys.readouterr().err
    assert await in_thread(lambda: run_recipe(lambda: again, ["--iterations", "4"])) == 0
    assert [run.saved.state.iteration for run in started if run.saved] == [3]


async def test_a_run_under_way_is_neither_resumed_nor_written_over(
    config: Config, started: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    first = prepare(config)
    for options, message in (
        (["--resume", "True"], "run name: {root}/small is under way, as process "),
        (["--resume", "True", "--dry-run"], "run name: {root}/small is under way, as process "),
        ([], "run name: {root}/small exists; resume it with --resume True, or take another name"),
    ):
        assert await in_thread(lambda options=options: run_recipe(lambda: config, options)) == 2
        assert message.format(root=config.run_dir) in capsys.readouterr().err
    assert not started
    first.held.close()  # as its end does
    again = replace(config, resume=True)
    assert await in_thread(lambda: run_recipe(lambda: again, [])) == 0


@pytest.mark.parametrize("evaluate", [False, True])
@pytest.mark.parametrize("place", ["{tmp}/file", "{tmp}/file/runs", "/" + "y" * 300])
def test_a_place_where_no_run_can_be(
    place: str,
    evaluate: bool,
    config: Config,
    tmp_path: Path,
    started: list[Run],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("mine")
    config = replace(config, run_dir=place.format(tmp=tmp_path))
    for options in ([], ["--resume", "True"], ["--dry-run"]):
        assert run_recipe(lambda: config, options, verb="eval" if evaluate else "train") == 2
        err = capsys.readouterr().err
        assert "rlstep: run_dir: '" in err and "choose another place with --run-dir" in err
        assert "Traceback" not in err
    assert not started and (tmp_path / "file").read_text() == "mine"
