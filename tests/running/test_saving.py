"""When a run saves: by number, by time, at a stop, at its end, and when it fails; with fake
roles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlstep.interfaces import PromptSet
from rlstep.reporting.run_directory import RunDirectory
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.run import Run
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config, small_prompts
from rlstep.types import Rollout, Samples

PROMPTS = PromptSet(train=small_prompts(16), evaluation=[])


class Roles(FakeRoles):
    """Knows what was trained on; may be made to fail or to wait."""

    def begin(self) -> Roles:
        self.memory: list[str] = []
        self.saved: list[int] = []
        self.begun = 0
        self.update_fails_at = self.save_fails_at = -1
        self.between_updates = asyncio.Event()
        self.between_updates.set()
        self.saving, self.may_save = asyncio.Event(), asyncio.Event()
        self.may_save.set()
        self.sync: Any = SimpleNamespace(max_parity_error=0.0)
        self.generators: Any = SimpleNamespace(recoveries=0)
        cast(Any, self.scorer).versions = {}
        return self

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        if iteration == self.update_fails_at:
            self.whole = False
            raise RuntimeError("rank 1 is lost")
        self.memory += sorted({r.prompt.prompt_id for r in rollouts})
        return await super().train(samples, rollouts, iteration)

    async def save(self, folder: Path) -> None:
        self.saving.set()
        self.begun += 1
        await self.may_save.wait()
        if len(self.memory) // 2 == self.save_fails_at:
            raise OSError("learner policy: save: the disk is gone")
        (folder / "memory").write_text(" ".join(self.memory))
        self.saved.append(len(self.memory) // 2)


class Breaking(FakeScorer):
    """Verifies nothing of one iteration."""

    at = -1

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        if any(rollout.iteration == self.at for rollout in rollouts):
            raise TimeoutError("scorer 0: verify did not finish within 61 s")
        return await super().verify(rollouts)


def started(directory: RunDirectory, **fields: Any) -> tuple[Run, Roles, Breaking]:
    """A run that goes on from what is saved there, if anything is."""
    config = small_config(iterations=8, **fields)
    checkpoints = Checkpoints(directory.checkpoints, config.checkpoint_keep)
    saved, scorer = checkpoints.latest_valid(), Breaking()
    version = saved.state.iteration if saved else 0
    generator = FakeGenerator(lambda prefix, child, seed: f"#{5 + child}", version=version)
    roles = Roles(config, generator, scorer, version=version).begin()
    run = Run(config, TOKENIZER, PROMPTS, directory, checkpoints, saved)
    if saved:
        roles.memory = (saved.path / "memory").read_text().split()
    run.roles = cast(Any, roles)
    run.reporter = cast(Any, SimpleNamespace(iteration=lambda *_: None))
    return run, roles, scorer


async def train(run: Run) -> RunState:
    return await run._train(run.saved.state if run.saved else RunState(iteration=0))


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "run")


# --- by time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "saved"),
    [
        ({}, [3, 6, 8]),  # 250 s each: 750 s are over 600, and so are 1500 s less 750 s
        ({"checkpoint_seconds": 0.0}, [8]),
        ({"checkpoint_seconds": 250.0}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"checkpoint_every": 2}, [2, 4, 6, 8]),  # never 600 s after the last one
        ({"checkpoint_every": 5}, [3, 5, 8]),  # 750 s; 1250 s; 2000 s
    ],
)
async def test_a_checkpoint_is_never_long_ago(
    fields: dict[str, Any], saved: list[int], directory: RunDirectory
) -> None:
    run, roles, _ = started(directory, **fields)
    now = [1000.0]

    def iterated(*_: Any) -> None:
        now[0] += 250.0

    run.clock = lambda: now[0]
    run.reporter = cast(Any, SimpleNamespace(iteration=iterated))
    await train(run)
    assert roles.saved == saved


async def test_as_many_checkpoints_stay_as_are_to_be_kept(directory: RunDirectory) -> None:
    run, _, _ = started(directory, checkpoint_every=1, checkpoint_keep=4)
    await train(run)
    assert len(list(directory.checkpoints.iterdir())) == 4


# --- a run that fails ----------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 1, 2])
async def test_a_run_that_fails_is_saved_and_loses_nothing(
    lag: int, directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    run, _, scorer = started(directory, max_policy_lag=lag)
    scorer.at = 3
    with pytest.raises(TimeoutError, match="scorer 0: verify did not finish within 61 s"):
        await train(run)
    found = run.checkpoints.latest_valid()
    assert found is not None and found.state.iteration == run.state.iteration > 0
    # At lag 0 the batch under way is sampled again, bit by bit.
    assert (found.path / "backlog.json").exists() == (lag > 0)
    assert f"the run fails; iteration {found.state.iteration} is saved" in caplog.text
    again, roles, _ = started(directory, max_policy_lag=lag)
    assert (await train(again)).iteration == 8
    assert sorted(roles.memory) == [p.prompt_id for p in PROMPTS.train]


async def test_an_update_that_fails_is_not_saved(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    run, roles, _ = started(directory, checkpoint_every=2)
    roles.update_fails_at = 3
    with pytest.raises(RuntimeError, match="rank 1 is lost"):
        await train(run)
    assert roles.saved == [2]
    assert "failed in its middle, and is not saved; the newest checkpoint is of iteration 2" in (
        caplog.text
    )


async def test_what_was_trained_on_before_its_report_failed_is_saved(
    directory: RunDirectory,
) -> None:
    run, roles, _ = started(directory)

    def report(record: dict[str, Any], *_: Any) -> None:
        if record["iteration"] == 3:
            raise ValueError("no record")

    run.reporter = cast(Any, SimpleNamespace(iteration=report))
    with pytest.raises(ValueError, match="no record"):
        await train(run)
    assert roles.saved == [3] and run.state.iteration == 3
    again, roles, _ = started(directory)
    await train(again)
    assert sorted(roles.memory) == [p.prompt_id for p in PROMPTS.train]


async def test_the_first_error_is_raised_where_saving_fails_too(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    run, roles, scorer = started(directory)
    scorer.at, roles.save_fails_at = 3, 3
    with caplog.at_level(logging.ERROR), pytest.raises(TimeoutError, match="scorer 0"):
        await train(run)
    assert "saving what it has done failed, too: learner policy: save: the disk" in caplog.text
    assert run.checkpoints.latest_valid() is None


async def test_nothing_is_saved_of_a_run_that_fails_at_once(directory: RunDirectory) -> None:
    run, roles, scorer = started(directory)
    scorer.at = 0
    with pytest.raises(TimeoutError):
        await train(run)
    assert roles.saved == []


# --- a stop --------------------------------------------------------------------------------------


async def test_a_stop_waits_for_a_save_that_is_under_way(directory: RunDirectory) -> None:
    run, roles, _ = started(directory, checkpoint_every=1)
    roles.may_save.clear()
    training = asyncio.create_task(train(run))
    await roles.saving.wait()
    run.stopped.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not training.done()
    roles.may_save.set()
    assert (await training).iteration == 1 and roles.saved == [1] and roles.begun == 1


@pytest.mark.parametrize("lag", [1, 2])
async def test_a_stop_keeps_what_is_ahead(lag: int, directory: RunDirectory) -> None:
    run, _, _ = started(directory, max_policy_lag=lag)

    def report(record: dict[str, Any], *_: Any) -> None:
        if record["iteration"] == 3:
            run.stopped.set()

    run.reporter = cast(Any, SimpleNamespace(iteration=report))
    state = await train(run)
    assert state.iteration == 3 and (directory.checkpoints / "iteration-000003").is_dir()
    assert (directory.checkpoints / "iteration-000003" / "backlog.json").exists()
    again, roles, _ = started(directory, max_policy_lag=lag)
    await train(again)
    assert sorted(roles.memory) == [p.prompt_id for p in PROMPTS.train]
