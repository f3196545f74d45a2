"""Faults by the hundred in virtual time, and that whoever judges them would see what they break."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import Event, violations
from tests.faults.guards import GUARDS, Guard
from tests.faults.rows import ROWS, damaged, full_disk, lived
from tests.faults.virtual_time import Hang, run_virtually
from tests.faults.world import Fault, Schedule, world

STORM = "F1 to F4, F13, F15, F26"


def test_a_hundred_faults_break_nothing() -> None:
    found = ROWS[STORM].run(110, 10_000)
    assert found.injections >= 110 and found.recoveries
    assert found.violations == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ROWS if "F6" not in name])
def test_every_row(name: str) -> None:
    found = ROWS[name].run(ROWS[name].injections, 1)
    assert found.violations == [] and found.injections >= ROWS[name].injections


def test_a_damaged_file_and_a_full_disk() -> None:
    assert damaged(15, 0).violations == []
    found = full_disk(12, 0)
    assert (found.injections, found.violations) == (12, [])


@pytest.mark.parametrize("state", ["serving", "idle"])
@pytest.mark.parametrize(
    ("kind", "made"),
    [("kill", 1), ("freeze", 1), ("stop", 1), ("pause", 0), ("crawl", 0), ("stillborn", 2)],
)
def test_one_fault_costs_so_many_engines(kind: str, made: int, state: str) -> None:
    faults = [Fault(kind=kind, replica=1, state=state, after=1.0)]
    history = run_virtually(world(Schedule(faults=faults, lag=1, iterations=8)))
    assert violations(history.events, lag=1, iterations=8) == []
    assert len(history.of("made")) == 3 + made


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_what_was_written_by_wrong_weights_is_never_handed_on(seed: int) -> None:
    """Engines go on before the probe has compared anything. A request that had lived through the
    sync, and came to its end before the probe's, was handed on: eight of 300 worlds had some."""
    faults = [Fault(kind="garble", replica=1, after=5.0 * i) for i in (1, 2, 3)]
    found = lived(Schedule(faults=faults, lag=2, train_s=0.5, iterations=12, seed=seed))
    assert (found.injections, found.violations) == (3, [])


def test_a_run_without_faults_replaces_nobody() -> None:
    history = run_virtually(world(Schedule()))
    assert violations(history.events, lag=0, iterations=6) == []
    assert len(history.of("made")) == 3 and len(history.of("trained")) == 6


def test_a_world_in_which_nothing_can_happen_ends() -> None:
    async def stuck() -> None:
        import asyncio

        await asyncio.Event().wait()

    with pytest.raises(Hang, match="everybody waits"):
        run_virtually(stuck())


def test_the_table_names_tests_that_there_are() -> None:
    here = Path(__file__).parent
    named = re.findall(r"tests/[\w/]+(?:\.py(?:::\w+)?)?", (here / "README.md").read_text())
    assert len(named) > 20
    for name in named:
        path, _, test = name.partition("::")
        file = here.parents[1] / path
        assert file.exists(), name
        assert f"def {test}(" in file.read_text() if test else True, name


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.what)
def test_every_guard_stands_where_the_list_says(guard: Guard) -> None:
    file = Path(__file__).parents[2] / "rlstep" / guard.file
    assert file.read_text().count(guard.text) == 1
    assert guard.test or guard.row in ROWS


# --- the judge -----------------------------------------------------------------------------------


def whole() -> list[Event]:
    """Six iterations in which a generator is killed."""
    faults = [Fault(kind="kill", replica=0, state="serving", after=1.0)]
    return run_virtually(world(Schedule(faults=faults))).events


def first(events: list[Event], name: str) -> Event:
    return next(event for event in events if event["event"] == name)


def another_engine(events: list[Event]) -> None:
    (at,) = (i for i, e in enumerate(events) if e["event"] == "made" and i > 5)
    events.insert(at + 1, {**events[at], "engine": "9.9", "replica": 2})


def mixed_weights(events: list[Event]) -> None:
    answer = first(events, "answered")["answer"]
    wrote = next(e for e in events if e["event"] == "wrote" and e["answer"] == answer)
    wrote["tokens"][0] = (0, 1)


def late(events: list[Event]) -> None:
    """What the killed one wrote, a second after its end."""
    gone = first(events, "ended")
    heard = first(events, "answered")
    wrote = next(e for e in events if e["event"] == "wrote" and e["answer"] == heard["answer"])
    wrote["engine"], heard["at"] = gone["engine"], gone["at"] + 1.0


def stale(events: list[Event]) -> None:
    trained = [event for event in events if event["event"] == "trained"][3]
    name = next(iter(trained["rollouts"]))
    trained["rollouts"][name] = [1]


def back_and_forth(events: list[Event]) -> None:
    trained = [event for event in events if event["event"] == "trained"][3]
    trained["version"] = 1


def lost_rollout(events: list[Event]) -> None:
    kept = first(events, "trained")["kept"]
    kept[next(iter(kept))] = (1, 0)


def trained_twice(events: list[Event]) -> None:
    one, other = [event for event in events if event["event"] == "trained"][:2]
    other["prompts"] = one["prompts"]


def answered_twice(events: list[Event]) -> None:
    events.append(deepcopy(first(events, "answered")))


def not_answered(events: list[Event]) -> None:
    events.remove(first(events, "answered"))


def asked_twice(events: list[Event]) -> None:
    events.append(deepcopy(first(events, "asked")))


def failed(events: list[Event]) -> None:
    first(events, "end")["error"] = "RuntimeError()"


def cut(events: list[Event]) -> None:
    events.remove([event for event in events if event["event"] == "trained"][-1])


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (mixed_weights, "I2"),
        (late, "I4"),
        (stale, "I1"),
        (back_and_forth, "I8"),
        (lost_rollout, "I4"),
        (trained_twice, "I4"),
        (answered_twice, "I4"),
        (not_answered, "I4"),
        (asked_twice, "I4"),
        (another_engine, "R"),
        (failed, "L"),
        (cut, "L"),
    ],
)
def test_the_checker_sees(breaks: Callable[[list[Event]], Any], told: str) -> None:
    events = whole()
    assert violations(events, lag=0, iterations=6) == []
    breaks(events)
    assert any(line.startswith(f"{told}:") for line in violations(events, lag=0, iterations=6))
