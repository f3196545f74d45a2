"""What is sampled ahead of the batches that are trained on goes on in the next life of a run: in
the loop with fake roles, cut off between two iterations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rlstep.config import Config
from rlstep.curriculum.shuffled import taken
from rlstep.interfaces import Choice, Curriculum, Draw
from rlstep.running.backlog import Backlog
from rlstep.running.loop import train
from rlstep.running.saved_backlog import read_backlog, write_backlog
from rlstep.running.selection import Selection
from rlstep.testing.roles import FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config, small_prompt
from rlstep.types import Group, Prompt, Request, Rollout, Samples
from tests.builders import make_group, make_rollout

PROMPTS = [small_prompt(f"{i:02d}", text=f"p{i:02d}=\n") for i in range(16)]


@dataclass(frozen=True, kw_only=True)
class Numbered(Curriculum):
    """Says of what it chose for which iteration."""

    def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
        return Choice(prompts=taken(prompts, draw), metrics={"chosen_for": float(draw.iteration)})


class Late(FakeGenerator):
    """Answers after a number of turns of the event loop, every third request very late."""

    async def _finish(self, request: Request, done: asyncio.Queue[Request]) -> None:
        for _ in range(Random(request.request_id).choice((1, 4, 120))):
            await asyncio.sleep(0)
        done.put_nowait(request)


class Slow(FakeRoles):
    """Groups finish, and are replaced, while it trains."""

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        for _ in range(40):
            await asyncio.sleep(0)
        return await super().train(samples, rollouts, iteration)


def written(prefix: str, child: int, seed: int) -> str:
    """The groups of prompts with an even number have no signal."""
    return "#5" if child == 0 or int(prefix[1:3]) % 2 == 0 else "#9"


@dataclass
class Lives:
    """One run by many lives."""

    config: Config
    folder: Path
    forgetful: bool = False
    """Whether nothing of the backlog is kept."""
    done: int = 0
    trained: list[tuple[int, str]] = field(default_factory=list)
    """(iteration that it was admitted with, prompt_id) of every group that was trained on."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    """request_ids of the groups that the last life left finished."""

    async def until(self, last: int, **fields: Any) -> Lives:
        """A life up to there, with other fields of the configuration."""
        config = replace(self.config, **fields)
        generator = Late(written, version=self.done)
        roles = Slow(config, generator, FakeScorer(), version=self.done)
        before = None if self.forgetful else read_backlog(self.folder, PROMPTS)
        selection = Selection(config, PROMPTS, backlog=before)

        def report(metrics: Any, groups: Sequence[Group]) -> None:
            self.metrics.append(dict(metrics))
            self.trained += [(g.rollouts[0].iteration, g.prompt.prompt_id) for g in groups]

        async with aclosing(train(config, roles, selection, report, self.done)) as loop:
            async for iteration in loop:
                if iteration == last:
                    break
        self.done = last
        asked = {request.request_id for request in generator.asked}
        assert self.forgetful or not asked & self.known, "what was there is sampled again"
        self.known = set()
        for file in self.folder.iterdir():
            file.unlink()
        ahead = selection.backlog.to_save(config.max_policy_lag)
        if ahead is not None:
            write_backlog(self.folder, ahead, PROMPTS)
            self.known |= {f"{i}/{group.prompt.prompt_id}" for i, group in ahead.finished}
            self.known |= {f"{i}/{name}" for i, its in ahead.admitted.items() for name in its.held}
        return self

    def total(self, metric: str) -> float:
        return sum(metrics.get(metric, 0.0) for metrics in self.metrics)


def lives(folder: Path, lag: int, **fields: Any) -> Lives:
    fields = {"curriculum": Numbered(), "iterations": 8, "max_policy_lag": lag, **fields}
    return Lives(small_config(**fields), folder)


@pytest.mark.parametrize("lag", [0, 1, 2, 4])
async def test_every_group_is_trained_on_once_in_however_many_lives(
    lag: int, tmp_path: Path
) -> None:
    run = lives(tmp_path, lag)
    for last in range(1, 9):
        await run.until(last)
    assert Counter(name for _, name in run.trained) == Counter(p.prompt_id for p in PROMPTS)
    assert run.total("rollout/failures") == 0
    # Every choice is reported once, with its own iteration, in whichever life that was made.
    assert [m["curriculum/chosen_for"] for m in run.metrics] == list(range(8))
    assert list(tmp_path.iterdir()) == []  # nothing is ahead at the end


async def test_without_the_backlog_prompts_are_lost_and_come_twice(tmp_path: Path) -> None:
    run = lives(tmp_path, 2)
    run.forgetful = True
    for last in range(1, 9):
        await run.until(last)
    counted = Counter(name for _, name in run.trained)
    assert len(counted) < 16 and max(counted.values()) > 1


async def test_at_lag_0_there_is_nothing_to_keep(tmp_path: Path) -> None:
    await lives(tmp_path, 0).until(3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lag", [1, 2])
async def test_what_is_replaced_is_counted_once(lag: int, tmp_path: Path) -> None:
    """Half of the prompts have no signal: by dynamic sampling others replace them, and who is
    replaced does not depend on lives."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    straight = await lives(whole, lag, further_prompts=5).until(8)
    run = lives(cut, lag, further_prompts=5)
    for last in range(1, 9):
        await run.until(last)
    assert Counter(run.trained) == Counter(straight.trained)
    replaced = straight.total("replaced/groups")
    assert run.total("replaced/groups") == replaced > 8


@pytest.mark.parametrize(("before", "after"), [(4, 0), (2, 1), (0, 3), (1, 2)])
async def test_another_lag_loses_nothing(before: int, after: int, tmp_path: Path) -> None:
    """What was collected under a higher bound is trained on under that one."""
    run = lives(tmp_path, before)
    await run.until(2)
    for last in range(3, 9):
        await run.until(last, max_policy_lag=after)
    assert Counter(name for _, name in run.trained) == Counter(p.prompt_id for p in PROMPTS)
    assert run.total("rollout/failures") == 0
    assert max(m["rollout/policy_lag_max"] for m in run.metrics) <= max(before, after)
    # By then everything is sampled under today's bound.
    assert run.metrics[-1]["rollout/policy_lag_max"] <= after


def group(name: str, iteration: int = 0) -> Group:
    rollout = make_rollout(f"{iteration}/{name}", [[1]], prompt=small_prompt(name))
    return make_group(replace(rollout, iteration=iteration))


def test_a_batch_under_way_is_not_trained_on() -> None:
    """Lag 1, two prompts an iteration: of iteration 0 one is late, of 1 one is there."""
    backlog = Backlog(frontier=2)
    for iteration, names in enumerate(("ab", "cd")):
        backlog.admit(iteration, [small_prompt(name) for name in names], 2)
    backlog.finish(0, group("a"))
    backlog.finish(1, group("c", 1))
    saved = backlog.to_save(1)
    assert saved is not None and saved.done == 0
    assert [g.prompt.prompt_id for _, g in saved.finished] == ["a", "c"]
    backlog.admitted[0].held["x"] = group("x")
    backlog.finish(0, group("b"))
    assert backlog.admitted[0].held == {}  # it was replaced by the last one
    backlog.trained(2)
    assert backlog.done == 1 and [g.prompt.prompt_id for _, g in backlog.finished] == ["b"]
    assert {i: its.missing for i, its in backlog.admitted.items()} == {0: 0, 1: 1}
    # What is saved stays as it was.
    assert len(saved.finished) == 2 and saved.admitted[0].missing == 1
    backlog.finish(1, group("d", 1))
    backlog.trained(2)
    assert backlog.admitted == {} and backlog.to_save(1) is None


def test_a_former_bound_holds_for_what_was_admitted_then() -> None:
    backlog = Backlog(former_frontier=3, former_lag=2)
    assert backlog.lag_of(group("a", 2), 0) == 2
    assert backlog.lag_of(group("a", 3), 0) == 0
    assert backlog.lag_of(group("a", 2), 4) == 4
