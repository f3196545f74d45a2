"""A learner's process ends on the way: the run goes on from its newest checkpoint, with the
generators that it has, as if nothing had been; with fake roles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlstep.actors.learner.learner_group import LearnerLost
from rlstep.reporting.run_directory import RunDirectory
from rlstep.running.checkpoint import RunState
from rlstep.running.run import Run
from rlstep.types import Rollout, Samples
from tests.running import test_saving


class Dying(test_saving.Roles):
    """Its learner is lost at some trainings and saves, each time once."""

    def begin(self) -> Dying:
        super().begin()
        self.dies_at: list[tuple[str, int]] = []
        self.again: list[tuple[str, int, int]] = []
        return self

    def _die(self, verb: str, number: int) -> None:
        if (verb, number) in self.dies_at:
            self.dies_at.remove((verb, number))
            raise LearnerLost(f"learner 'policy' rank 1: {verb}")

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        self.whole = False
        self._die("train", iteration)
        return await super().train(samples, rollouts, iteration)

    async def save(self, folder: Path) -> None:
        self._die("save", len(self.memory) // 2)
        await super().save(folder)

    async def learners_again(self, resume_from: Path | None, version: int, sampled: int) -> None:
        self._die("start", len(self.again))
        self.again.append((resume_from.name if resume_from else "", version, sampled))
        self.memory = (resume_from / "memory").read_text().split() if resume_from else []
        self.version = self.generator.version = version
        self.counting.sampled, self.whole = sampled, True


def running(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, **fields: Any
) -> tuple[Run, Dying]:
    monkeypatch.setattr(test_saving, "Roles", Dying)
    run, roles, _ = test_saving.started(directory, **fields)

    def report(record: dict[str, Any], *_: Any) -> None:
        kept = ("iteration", "rollout/sampled_total", "rollout/groups")
        directory.metrics.append({name: record[name] for name in kept if name in record})

    run.reporter = cast(Any, SimpleNamespace(iteration=report))
    return run, cast(Dying, roles)


@pytest.mark.parametrize(
    ("dies_at", "again"),
    [
        ([("train", 3)], ["iteration-000002"]),
        ([("train", 0)], [""]),  # before there is a checkpoint
        ([("train", 4)], ["iteration-000004"]),  # nothing is done again
        ([("save", 4)], ["iteration-000002"]),
        ([("train", 3), ("train", 5)], ["iteration-000002", "iteration-000004"]),
        ([("train", 3), ("start", 0)], ["iteration-000002"]),  # its successor does not start
    ],
)
@pytest.mark.parametrize("lag", [0, 1])
async def test_the_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: int, dies_at: Any, again: list[str]
) -> None:
    fields: dict[str, Any] = {"checkpoint_every": 2, "max_policy_lag": lag}
    one = RunDirectory.create(tmp_path, "whole")
    run, roles = running(one, monkeypatch, **fields)
    await run._train(RunState(iteration=0))
    assert len(roles.memory) == 16 == len(set(roles.memory))

    other = RunDirectory.create(tmp_path, "lost")
    lost, dying = running(other, monkeypatch, **fields)
    dying.dies_at = list(dies_at)
    state = await lost._train(RunState(iteration=0))
    assert state.iteration == 8 and not dying.dies_at
    assert [name for name, _, _ in dying.again] == again
    # Every prompt once; at lag 0 in the same order, with the same counts.
    assert sorted(dying.memory) == sorted(roles.memory)
    rows = [json.loads(line) for line in (other.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == list(range(1, 9))
    if not lag:
        assert dying.memory == roles.memory
        before, after = (d.path / "metrics.jsonl" for d in (one, other))
        assert before.read_text() == after.read_text()


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("at", ["begin", "end"])
async def test_a_stop_while_learners_start_again_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: int, at: str
) -> None:
    """Their weights are not those of the iteration that the run had come to."""
    directory = RunDirectory.create(tmp_path, "lost")
    fields: dict[str, Any] = {"checkpoint_every": 2, "max_policy_lag": lag}
    run, roles = running(directory, monkeypatch, **fields)
    roles.dies_at = [("train", 3)]
    again = roles.learners_again

    async def stopped(*arguments: Any) -> None:
        if at == "end":
            await again(*arguments)
            roles.whole = False  # the first sync is still to come
        run.stopped.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(roles, "learners_again", stopped)
    assert (await run._train(RunState(iteration=0))).iteration == 2
    assert [path.name for path in directory.checkpoints.iterdir()] == ["iteration-000002"]


async def test_a_loss_between_updates_and_an_error_on_the_way_back_save_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost while it scores, when three iterations are whole and two are saved; then the metrics
    cannot be cut back, and what the learners hold by then is of iteration 2."""
    directory = RunDirectory.create(tmp_path, "lost")
    run, roles = running(directory, monkeypatch, checkpoint_every=2)
    score = roles.scorer.score_steps

    async def lost(rollouts: Sequence[Rollout]) -> list[Rollout]:
        if len(roles.memory) == 6:
            raise LearnerLost("learner 'prm' rank 0: predict")
        return await score(rollouts)

    def fails(self: RunDirectory, iteration: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(roles.scorer, "score_steps", lost)
    monkeypatch.setattr(RunDirectory, "truncate_after", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        await run._train(RunState(iteration=0))
    assert len(roles.again) == 1
    assert [path.name for path in directory.checkpoints.iterdir()] == ["iteration-000002"]


async def test_too_many_losses_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RunDirectory.create(tmp_path, "lost")
    run, roles = running(directory, monkeypatch, max_learner_losses=1, checkpoint_every=2)
    roles.dies_at = [("train", 3), ("train", 4)]
    with pytest.raises(RuntimeError, match=r"'policy' rank 1: train \(max_learner_losses = 1 are"):
        await run._train(RunState(iteration=0))
    assert len(roles.again) == 1
    assert [path.name for path in sorted(directory.checkpoints.iterdir())][-1].endswith("4")


async def test_another_error_of_a_learner_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that raises would raise again."""
    directory = RunDirectory.create(tmp_path, "fails")
    run, roles = running(directory, monkeypatch, checkpoint_every=2)
    roles.update_fails_at = 3
    with pytest.raises(RuntimeError, match="rank 1 is lost"):
        await run._train(RunState(iteration=0))
    assert not roles.again
