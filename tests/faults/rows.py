"""What is done, row by row of the fault matrix: every row gives what was injected, what was
violated and how long recoveries took."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from rlstep.running.checkpoint import Checkpoints, DamagedCheckpoint, RunState
from tests.faults.checker import violations
from tests.faults.virtual_time import run_virtually
from tests.faults.world import DEEDS, Fault, Schedule, drawn, recoveries, world


@dataclass
class Found:
    """Of a row, or of a part of it."""

    injections: int = 0
    violations: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    """Seconds."""

    def add(self, other: Found) -> None:
        self.injections += other.injections
        self.violations += other.violations
        self.recoveries += other.recoveries


def lived(schedule: Schedule) -> Found:
    """One world, judged."""
    history = run_virtually(world(schedule))
    wrong = violations(history.events, lag=schedule.lag, iterations=schedule.iterations)
    return Found(
        injections=len(history.of("fault")),
        violations=[f"{line} ({schedule})" for line in wrong],
        recoveries=recoveries(history),
    )


def worlds(kinds: Sequence[str], *states: str) -> Callable[[int, int], Found]:
    """Worlds of faults of these kinds, in these states."""

    def row(injections: int, seed: int) -> Found:
        found = Found()
        while found.injections < injections:
            found.add(lived(drawn(seed, kinds, states or ("",))))
            seed += 1
        return found

    return row


def unverified(injections: int, seed: int) -> Found:
    """F2 with F13: wrong weights at one engine, and another one is lost before they are compared,
    so that the comparison is made after the next transfer alone."""
    found = Found()
    while found.injections < injections:
        random = Random(seed)
        faults = [
            Fault(kind="garble", replica=0, after=10 * random.random()),
            Fault(kind="kill", replica=1, state="resumed"),
        ]
        token_s = random.choice((0.1, 0.5, 2.0))
        schedule = Schedule(
            faults=faults, lag=2, replicas=2, train_s=0.5, token_s=token_s, seed=seed
        )
        found.add(lived(schedule))
        seed += 1
    return found


def checkpointed(folder: Path) -> Checkpoints:
    """Two checkpoints, of iterations 1 and 2."""
    checkpoints = Checkpoints(folder / "checkpoints")
    for iteration in (1, 2):
        asyncio.run(save(checkpoints, iteration))
    return checkpoints


async def save(checkpoints: Checkpoints, iteration: int, size: int = 3000) -> None:
    async with checkpoints.writing(RunState(iteration=iteration)) as folder:
        for name in ("policy", "prm"):
            (folder / name).mkdir()
            (folder / name / "weights").write_bytes(bytes([iteration]) * size)


def damaged(injections: int, seed: int) -> Found:
    """F8: a file of the newest checkpoint is changed, cut short or gone: the one before is found,
    and with both damaged the run is refused, not begun anew."""
    random, found = Random(seed), Found(injections=injections)
    for _ in range(injections):
        with tempfile.TemporaryDirectory() as made:
            checkpoints = checkpointed(Path(made))
            both = random.random() < 0.2
            for iteration in (1, 2) if both else (2,):
                files = [
                    path
                    for path in (checkpoints.directory / f"iteration-{iteration:06d}").rglob("*")
                    if path.is_file()
                ]
                _damage(random.choice(sorted(files)), random)
            try:
                newest = checkpoints.latest_valid()
                if both or newest is None or newest.state.iteration != 1:
                    found.violations.append(f"I7: {newest} after damage")
            except DamagedCheckpoint as error:
                if not both:
                    found.violations.append(f"I7: {error}")
    return found


def _damage(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    how = random.choice(("flip", "cut", "gone"))
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: random.randrange(len(data))])
    else:  # of the manifest's text a changed space would mean the same
        data[random.randrange(len(data))] ^= 0x80
        path.write_bytes(data)


def full_disk(injections: int, seed: int) -> Found:
    """F9: there is no room at some write of a save: what was saved stays, and the next one works.
    The full disk is a hook: no file system is filled."""
    found, point, iteration = Found(), 0, 2
    with tempfile.TemporaryDirectory() as made:
        checkpoints = checkpointed(Path(made))
        while found.injections < injections:
            point, iteration = point + 1, iteration + 1
            with _no_room_from(point) as hit:
                try:
                    asyncio.run(save(checkpoints, iteration))
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, None):
                        found.violations.append(f"a full disk was told as {error!r}")
            newest = checkpoints.latest_valid()
            if not hit():
                point = 0
                continue
            found.injections += 1
            if newest is None:
                found.violations.append(f"I7: nothing is left of a full disk at write {point}")
            if any(checkpoints.directory.glob(".writing-*")):
                found.violations.append(f"a full disk stays full: write {point}")
    return found


class _no_room_from:
    """Every write from the n-th on fails, in this process and below the temporary folder."""

    def __init__(self, point: int) -> None:
        self.left = point

    def __enter__(self) -> Callable[[], bool]:
        self._open, self._fsync = Path.write_bytes, os.fsync

        def write(path: Path, data: Any) -> int:
            self._count(path)
            return self._open(path, data)

        def fsync(descriptor: int) -> None:
            self._count(descriptor)
            self._fsync(descriptor)

        Path.write_bytes, os.fsync = write, fsync  # type: ignore[method-assign]
        return lambda: self.left <= 0

    def _count(self, what: object) -> None:
        self.left -= 1
        if self.left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(what))

    def __exit__(self, *_: object) -> None:
        Path.write_bytes, os.fsync = self._open, self._fsync  # type: ignore[method-assign]


def killed_while_saving(injections: int, seed: int) -> Found:
    """F7: SIGKILL before every operation of a save that changes the disk, in turn."""
    from tests.running.test_checkpoint import crash

    found = Found()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        crash(folder / "two", -1)
        point = 0
        while found.injections < injections:
            point += 1
            directory = folder / "checkpoints"
            shutil.rmtree(directory, ignore_errors=True)
            shutil.copytree(folder / "two", directory)
            killed, operations = crash(directory, point)
            if not killed:
                point = 0
                continue
            found.injections += 1
            newest = Checkpoints(directory).latest_valid()
            renamed = any(line.startswith("os.rename") for line in operations[: point - 1])
            if newest is None or newest.state.iteration != (3 if renamed else 2):
                found.violations.append(f"I7: killed at {operations[-1]}, found {newest}")
    return found


def killed_driver(injections: int, seed: int) -> Found:
    """F6, F11, F20: the driver is killed anywhere, at lag 0, 1, 2 and 4, and the run goes on from
    its checkpoints: nothing is lost, nothing is trained on twice."""
    from tests.running.test_lives import check_history, lives, of_lags, remembered

    found = Found()
    while found.injections < injections:
        kills = min(50, -(-(injections - found.injections) // 4))
        asked = of_lags(kills, iterations=max(8, kills), longest=50, seed=seed)[:4]
        with tempfile.TemporaryDirectory() as made:
            found.injections += sum(lives(Path(made), *asked))
            for run in asked:
                try:
                    check_history(remembered(Path(made) / run["name"]), run["iterations"])
                except AssertionError as error:
                    found.violations.append(f"I4: {run['name']}: {error}")
        seed += 1
    return found


def killed_workers(injections: int, seed: int) -> Found:
    """F5: a verifier's processes are killed while they verify: every item has its verdict."""
    from rlstep.scoring.processes.verifier_pool import VerifierPool
    from rlstep.tasks.arithmetic import AnswerLine
    from rlstep.types import OutcomeScore

    async def row() -> Found:
        found, random = Found(), Random(seed)
        with VerifierPool(AnswerLine(), workers=2, deadline_s=60.0) as pool:
            while found.injections < injections:
                items = [(f"x\n#{n}", str(n % 7)) for n in range(40)]
                verifying = asyncio.ensure_future(pool.verify(items))
                await asyncio.sleep(random.choice((0.0, 0.001, 0.01)))
                for pid in random.sample(pool.pids(), k=min(1, len(pool.pids()))):
                    os.kill(pid, signal.SIGKILL)
                    found.injections += 1
                for n, outcome in enumerate(await verifying):
                    right = isinstance(outcome, OutcomeScore) and outcome.value == (n == n % 7)
                    if not right:
                        found.violations.append(f"I5: item {n} has {outcome}")
        return found

    return asyncio.run(row())


STILL = ("stop", "freeze", "pause", "crawl")


@dataclass(frozen=True)
class Row:
    about: str
    run: Callable[[int, int], Found]
    """(injections, seed)."""
    injections: int
    """Of `make faults`."""


ROWS: dict[str, Row] = {
    "F1": Row("a generator is killed, idle", worlds(["kill"], "idle"), 200),
    "F2": Row("a generator is killed, decoding", worlds(["kill"], "serving"), 200),
    "F3": Row("a generator is killed in a weight transfer", worlds(["kill"], "loading"), 150),
    "F4": Row("a generator stands still, or crawls", worlds(STILL, "idle", "serving"), 200),
    "F5": Row("a verifier's process is killed", killed_workers, 100),
    "F6, F11, F20": Row("the driver is killed", killed_driver, 400),
    "F7": Row("killed at every write of a checkpoint", killed_while_saving, 100),
    "F8": Row("a file of a checkpoint is damaged", damaged, 200),
    "F9": Row("no room on the disk", full_disk, 60),
    "F13, F16": Row("weights arrive wrong", worlds(["garble"]), 200),
    "F2, F13": Row("and an engine is lost before they are compared", unverified, 100),
    "F15": Row("a peer is silent in a transfer", worlds(["freeze", "refuse"], "loading"), 100),
    "F26": Row("an engine's start fails", worlds(["stillborn"]), 100),
    "F1 to F4, F13, F15, F26": Row(
        "anything, at once and after another",
        worlds(list(DEEDS), "", "idle", "serving", "loading", "resumed", "starting"),
        600,
    ),
}
"""By rows of the matrix."""
