"""A stop is heeded wherever a run is: at its start, in an evaluation, in an export."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlstep.interfaces import PromptSet
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.run import Run
from rlstep.running.stopping import until_stopped
from rlstep.testing.roles import TOKENIZER
from rlstep.testing.small import small_config, small_prompts

PROMPTS = PromptSet(train=small_prompts(4), evaluation=[])


class Endless:
    """Work that ends when it is cancelled, and tells of both."""

    def __init__(self) -> None:
        self.begun, self.cancelled = asyncio.Event(), False

    async def __call__(self, *_: Any, **__: Any) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_work_that_ends_is_done() -> None:
    assert await until_stopped(asyncio.Event(), asyncio.sleep(0))


async def test_a_stop_cancels_work() -> None:
    stopped, endless = asyncio.Event(), Endless()
    doing = asyncio.create_task(until_stopped(stopped, endless()))
    await endless.begun.wait()
    stopped.set()
    assert not await doing and endless.cancelled
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_must_not_be_cut_is_waited_for() -> None:
    stopped, endless, whole = asyncio.Event(), Endless(), asyncio.Event()
    doing = asyncio.create_task(until_stopped(stopped, endless(), whole.wait))
    await endless.begun.wait()
    stopped.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not endless.cancelled
    whole.set()
    assert not await doing


async def test_an_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        raise RuntimeError("generator 0 is lost")

    with pytest.raises(RuntimeError, match="generator 0 is lost"):
        await until_stopped(asyncio.Event(), fail())


async def test_whoever_else_cancels_ends_the_work_too() -> None:
    endless = Endless()
    doing = asyncio.create_task(until_stopped(asyncio.Event(), endless()))
    await endless.begun.wait()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert endless.cancelled and asyncio.all_tasks() == {asyncio.current_task()}


async def test_work_that_was_cancelled_without_a_stop_is_no_stop() -> None:
    async def lose() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await until_stopped(asyncio.Event(), lose())


# --- a training ----------------------------------------------------------------------------------


def made(directory: RunDirectory) -> Run:
    config = small_config(sinks=(Files(),))
    checkpoints = Checkpoints(directory.checkpoints)
    return Run(config, TOKENIZER, PROMPTS, directory, checkpoints, None)


async def test_a_stop_during_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, endless = made(RunDirectory.create(tmp_path, "run")), Endless()
    monkeypatch.setattr(Run, "_start_roles", endless)
    running = asyncio.create_task(run.run())
    await endless.begun.wait()
    run.stopped.set()
    assert await running == {"complete": False} and endless.cancelled
    summary = json.loads(run.directory.summary.read_text())
    assert (summary["complete"], summary["failed"]) == (False, False)


async def no_peaks() -> dict[str, float]:
    return {}


async def test_a_stop_during_the_export_leaves_no_half_of_one(tmp_path: Path) -> None:
    run, begun = made(RunDirectory.create(tmp_path, "run")), asyncio.Event()

    async def export(folder: str) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        begun.set()
        await asyncio.Event().wait()

    between = asyncio.Event()
    between.set()
    run.roles = cast(
        Any,
        SimpleNamespace(
            policy=SimpleNamespace(export=export),
            between_updates=between,
            step_models=(),
            sampled=0,
            sync=SimpleNamespace(max_parity_error=0.0),
            generators=SimpleNamespace(recoveries=0),
            peaks_gib=no_peaks,
        ),
    )
    run.reporter = cast(Any, SimpleNamespace(add_to_summary=lambda **_: None))
    run.state = RunState(iteration=3)
    finishing = asyncio.create_task(run._finish(run.state))
    await begun.wait()
    run.stopped.set()
    summary = await finishing
    assert summary["complete"] is False
    assert not list(run.directory.path.rglob("model.safetensors"))
