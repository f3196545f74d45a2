"""Prompts by curriculum and by signal, in the loop with fake roles: chosen, replaced, logged and,
by a run that goes on, chosen again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.config import Config
from rlstep.curriculum.level_dial import LevelDial
from rlstep.curriculum.pass_rate_window import PassRateWindow
from rlstep.curriculum.pre_ppo import PrePpo
from rlstep.interfaces import Choice, Curriculum, Draw, PromptSet, RolloutContext
from rlstep.plugins import PlugInError
from rlstep.reporting.files import JsonLines
from rlstep.reporting.measurements import MeasurementLog
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.independent import Independent
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.loop import train
from rlstep.running.replacing import with_signal
from rlstep.running.run import Run
from rlstep.running.selection import Selection
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config, small_prompt, small_prompts
from rlstep.types import Group, Prompt, Sampling
from tests.builders import make_group, make_rollout

SHORT = Sampling(max_tokens=64)


def written(prefix: str, child: int, seed: int) -> str:
    """Right or wrong by the request's seed and the child: the same for the same request."""
    return "#5" if (seed >> child) & 1 else "#9"


class Asked:
    """A run of the loop, as far as it is to come: requests, metrics, groups."""

    def __init__(self, config: Config, prompts: Sequence[Prompt], write: Any = written) -> None:
        self.config, self.prompts = config, prompts
        self.roles = FakeRoles(config, FakeGenerator(write), FakeScorer())
        self.metrics: list[dict[str, Any]] = []
        self.trained: list[list[str]] = []

    async def until(self, last: int, log: MeasurementLog | None = None, first: int = 0) -> Asked:
        selection = Selection(self.config, self.prompts, log)

        def report(metrics: Any, groups: Sequence[Group]) -> None:
            self.metrics.append(dict(metrics))
            self.trained.append([group.prompt.prompt_id for group in groups])

        async with aclosing(train(self.config, self.roles, selection, report, first)) as done:
            async for iteration in done:
                if iteration == last:
                    break
        return self

    def of(self, first: int) -> list[tuple[str, int]]:
        """What was asked of the generator from an iteration on, in the order of its name."""
        asked = [(r.request_id, r.seed) for r in self.roles.generator.asked]
        return sorted(each for each in asked if int(each[0].split("/")[0]) >= first)


def levelled(number: int) -> list[Prompt]:
    """Prompts a, b, ... of levels 0 and 1 and tasks 'x' and 'y'."""
    return [
        replace(p, meta={"level": int(i >= number // 2), "task": "xy"[i % 2]})
        for i, p in enumerate(small_prompts(number))
    ]


CURRICULA = [
    LevelDial(promote_at=0.5, iterations=1),
    PassRateWindow(lowest=0.4, highest=0.6, remembered=4),
    PrePpo(share=0.34, hard=0.5),
]


@pytest.mark.parametrize("further", [0, 2])
@pytest.mark.parametrize("curriculum", CURRICULA, ids=lambda c: type(c).__name__)
async def test_a_run_that_goes_on_chooses_the_same_prompts(
    curriculum: Curriculum, further: int, tmp_path: Path
) -> None:
    """Stopped after 5 of 9 iterations, with the checkpoint of the fourth: what it measured of the
    fifth is cut off."""
    config = small_config(
        curriculum=curriculum,
        further_prompts=further,
        iterations=9,
        rollouts=Independent(samples_per_prompt=4, sampling=SHORT),
    )
    prompts = levelled(12)
    whole, cut = JsonLines(tmp_path / "whole"), JsonLines(tmp_path / "cut")
    straight = await Asked(config, prompts).until(9, MeasurementLog(whole))
    await Asked(config, prompts).until(5, MeasurementLog(cut))
    cut.truncate_after(4)
    log = MeasurementLog(cut)
    log.check(4)
    resumed = await Asked(config, prompts).until(9, log, first=4)
    assert resumed.of(4) == straight.of(4)
    assert resumed.trained == straight.trained[4:]
    assert cut.path.read_text() == whole.path.read_text()
    # It does choose by what it measured: without the log it goes another way.
    blind = await Asked(config, prompts).until(9, first=4)
    assert blind.of(4) != straight.of(4)


async def test_the_run_logs_in_its_directory_and_goes_on_from_there(tmp_path: Path) -> None:
    """Cut back as `Reporter` cuts back a directory that a run goes on in."""
    curriculum = LevelDial(promote_at=0.5, iterations=1)
    config = small_config(curriculum=curriculum, iterations=6)
    prompts = PromptSet(train=levelled(8), evaluation=[])

    async def iterate(directory: RunDirectory, iterations: int, first: int = 0) -> list[str]:
        roles: Any = FakeRoles(config, FakeGenerator(written), FakeScorer())
        roles.scorer.versions = {}
        run = Run(
            replace(config, iterations=iterations), TOKENIZER, prompts, directory,
            Checkpoints(directory.checkpoints), None,
        )  # fmt: skip
        run.roles, run.reporter = roles, cast(Any, SimpleNamespace(iteration=lambda *_: None))
        await run._iterate(RunState(iteration=first), 0.0)
        return [request.request_id for request in roles.generator.asked]

    whole, cut = (RunDirectory.create(tmp_path, name) for name in ("whole", "cut"))
    straight = await iterate(whole, 6)
    assert await iterate(cut, 4) == straight[:8]
    cut.truncate_after(3)
    assert await iterate(cut, 6, first=3) == straight[6:]
    assert cut.measurements.path.read_bytes() == whole.measurements.path.read_bytes()


async def test_a_run_of_all_in_turn_logs_nothing(tmp_path: Path) -> None:
    config, file = small_config(), JsonLines(tmp_path / "log")
    run = await Asked(config, small_prompts(4)).until(3, MeasurementLog(file))
    assert len(run.metrics) == 3 and not file.path.exists()
    assert not [name for name in run.metrics[0] if name.startswith(("curriculum/", "replaced/"))]


async def test_what_is_measured_late_is_not_chosen_by(tmp_path: Path) -> None:
    """At lag 1 iteration i knows of those up to i - 2, also where the log has one more when a run
    goes on."""

    @dataclass(frozen=True, kw_only=True)
    class Newest(Curriculum):
        @property
        def reads(self) -> frozenset[str]:
            return frozenset({"outcome"})

        def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
            newest = max((m.iteration for m in draw.measured), default=-1)
            return Choice(prompts=prompts, metrics={"newest": newest})

    for lag in (0, 1, 2):
        config = small_config(curriculum=Newest(), iterations=5, max_policy_lag=lag)
        log = MeasurementLog(JsonLines(tmp_path / f"log-{lag}"))
        for first, last in ((0, 3), (3, 5)):
            run = await Asked(config, small_prompts(4)).until(last, log, first)
            found = [metrics["curriculum/newest"] for metrics in run.metrics]
            assert found == [max(-1, i - 1 - lag) for i in range(first, last)]


# --- dynamic sampling ----------------------------------------------------------------------------


def half_right(prefix: str, child: int, seed: int) -> str:
    """Of prompts a to d all is right; of the others the first child."""
    return "#5" if prefix[0] in "abcd" or child == 0 else "#9"


@dataclass(frozen=True, kw_only=True)
class InOrder(Curriculum):
    """The prompts as the task has them."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"outcome"})

    def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
        return Choice(prompts=prompts)


@pytest.mark.parametrize(
    ("further", "trained", "replaced"),
    [
        (0, "abc", ""),
        (1, "abc", "d"),  # d in the place of a has no signal either, and the first come first
        (2, "abe", "cd"),  # a, b, c, d and e: one has signal, a and b fill up
        (3, "aef", "bcd"),
        (4, "efg", "abcd"),
        (5, "efg", "abcd"),  # and h is not needed
    ],
)
async def test_groups_without_signal_are_replaced(
    further: int, trained: str, replaced: str
) -> None:
    config = small_config(
        curriculum=InOrder(), further_prompts=further, iterations=1, prompts_per_iteration=3
    )
    run = await Asked(config, small_prompts(8), half_right).until(1)
    [metrics] = run.metrics
    assert "".join(run.trained[0]) == trained
    assert metrics["rollout/groups"] == 3 and metrics.get("replaced/groups", 0) == len(replaced)
    assert [r.split("/")[1] for r, _ in run.of(0)] == sorted(trained + replaced)
    without = sum(name in "abcd" for name in trained)
    assert metrics["rollout/without_signal"] == pytest.approx(without / 3)
    assert ("replaced/accuracy" in metrics) == bool(replaced)


async def test_what_is_replaced_is_measured_and_its_failures_count(tmp_path: Path) -> None:
    config = small_config(
        curriculum=InOrder(), further_prompts=4, iterations=1, prompts_per_iteration=2
    )
    run = Asked(config, small_prompts(8), half_right)
    run.roles.generator.failing = {"0/a", "0/b"}
    log = JsonLines(tmp_path / "log")
    await run.until(1, MeasurementLog(log))
    assert run.trained == [["e", "f"]]
    assert run.metrics[0]["replaced/failures/generator_lost"] == 2
    [row] = log
    of = {each["prompt_id"]: (each["correct"], each["samples"]) for each in row["prompts"]}
    assert of == {"a": (0, 0), "b": (0, 0), "c": (2, 2), "d": (2, 2), "e": (1, 2), "f": (1, 2)}
    # Where more fails than is allowed, it is the run's end also when all of it was replaced.
    strict = Asked(replace(config, max_failed_scores=0.1), small_prompts(8), half_right)
    strict.roles.generator.failing = {"0/a", "0/b"}
    with pytest.raises(PlugInError, match="2 generator_lost"):
        await strict.until(1)


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=3, max_size=9), st.integers(0, 1000))
def test_who_is_asked_does_not_depend_on_who_is_fast(signal: list[bool], order: int) -> None:
    """The shortest start that has 3 groups with signal, or all."""
    prompts = [small_prompt(str(i)) for i in range(len(signal))]
    asked: list[int] = []
    fast = Random(order)

    async def collect(wanted: Sequence[Prompt]) -> AsyncIterator[Group]:
        asked.extend(int(p.prompt_id) for p in wanted)
        for p in fast.sample(wanted, len(wanted)):
            for _ in range(fast.randrange(4)):
                await asyncio.sleep(0)
            values = (1.0, 0.0 if signal[int(p.prompt_id)] else 1.0)
            yield make_group(*(make_rollout(str(v), [[1]], outcome=v, prompt=p) for v in values))

    async def run() -> tuple[list[int], list[Group]]:
        replaced: list[Group] = []
        groups = [g async for g in with_signal(collect, prompts, 3, replaced, "Strategy")]
        return sorted(int(g.prompt.prompt_id) for g in groups), replaced

    trained, replaced = asyncio.run(run())
    ends = [n for n in range(3, len(signal) + 1) if sum(signal[:n]) == 3]
    assert sorted(asked) == list(range(ends[0] if ends else len(signal)))
    good = [i for i in asked if signal[i]]
    bad = sorted(i for i in asked if not signal[i])
    assert trained == sorted(good + bad[: 3 - len(good)])
    assert len(replaced) == len(asked) - 3


# --- strategies and curricula that do not keep to it ----------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Skips(Independent):
    """Yields no group of some prompts, or one twice."""

    skipped: str = ""
    twice: bool = False

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        async for group in super().collect(prompts, context):
            if group.prompt.prompt_id not in self.skipped:
                yield group
                if self.twice:
                    yield group


async def test_fewer_groups_than_prompts_end_the_run_by_name() -> None:
    for lag in (0, 1):
        config = small_config(rollouts=Skips(skipped="abcdef", sampling=SHORT), max_policy_lag=lag)
        with pytest.raises(RuntimeError, match=r"Skips yielded no group of 2 of 2 prompts, the"):
            await Asked(config, small_prompts(6)).until(3)
    config = small_config(rollouts=Skips(twice=True, sampling=SHORT))
    with pytest.raises(RuntimeError, match=r"a group of prompt '.' came, which was not asked for"):
        await Asked(config, small_prompts(6)).until(3)


async def test_dynamic_sampling_goes_on_with_fewer_groups() -> None:
    config = small_config(
        rollouts=Skips(samples_per_prompt=2, sampling=SHORT, skipped="eg"),
        curriculum=InOrder(),
        further_prompts=5,
        iterations=1,
    )
    prompts = small_prompts(9)
    run = await Asked(config, prompts[4:], half_right).until(1)
    assert run.trained == [["f", "h"]]
    nothing = replace(config, rollouts=replace(config.rollouts, skipped="fghi"))  # type: ignore
    with pytest.raises(RuntimeError, match=r"Skips yielded no group of 4 of 5 prompts"):
        await Asked(nothing, prompts[4:], half_right).until(1)


async def test_a_curriculum_that_chooses_too_few_or_one_twice_ends_the_run() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Chooses(Curriculum):
        which: tuple[int, ...]

        def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
            return Choice(prompts=[prompts[i] for i in self.which])

    for which in ((0,), (0, 0), (0, 1, 1)):
        config = small_config(curriculum=Chooses(which=which))
        with pytest.raises(PlugInError, match=rf"Chooses chose {len(which)} prompts .* owes at"):
            await Asked(config, small_prompts(4)).until(1)
