from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlstep.running.checkpoint import Checkpoints, DamagedCheckpoint, RunState, verify

ROOT = Path(__file__).parents[2]


def state(iteration: int) -> RunState:
    return RunState(
        iteration=iteration, versions={"policy": iteration}, counters={"trained": 8 * iteration}
    )


async def save(checkpoints: Checkpoints, iteration: int) -> None:
    async with checkpoints.writing(state(iteration)) as folder:
        (folder / "policy" / "rank0").mkdir(parents=True)
        (folder / "policy" / "rank0" / "weights.bin").write_bytes(b"w" * 3000 + bytes([iteration]))
        (folder / "prm.bin").write_bytes(b"p" * iteration)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_saved_state_comes_back_and_old_ones_go(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest_valid() is None
    for iteration in (1, 2, 3):
        await save(checkpoints, iteration)
    found = checkpoints.latest_valid()
    assert found is not None and found.state == state(3)
    assert (found.path / "prm.bin").read_bytes() == b"ppp"
    assert names(tmp_path / "checkpoints") == ["iteration-000002", "iteration-000003"]


async def test_an_error_while_saving_keeps_what_was_there(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    await save(checkpoints, 1)
    with pytest.raises(OSError, match="No space left"):
        async with checkpoints.writing(state(2)) as folder:
            (folder / "half").write_bytes(b"x")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == ["iteration-000001"]
    await save(checkpoints, 2)
    found = checkpoints.latest_valid()
    assert found is not None and found.state.iteration == 2


async def test_a_disk_that_fills_up_during_the_commit(tmp_path: Path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    await save(checkpoints, 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        await save(checkpoints, 2)
    assert names(tmp_path) == ["iteration-000001"]


async def test_a_cancelled_save_is_reclaimed_by_the_next(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    started = asyncio.Event()

    async def hang() -> None:
        async with checkpoints.writing(state(1)):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert checkpoints.latest_valid() is None
    await save(checkpoints, 2)
    assert names(tmp_path) == ["iteration-000002"]


async def test_a_valid_iteration_is_not_saved_over(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    await save(checkpoints, 1)
    with pytest.raises(ValueError, match="already saved"):
        await save(checkpoints, 1)
    assert checkpoints.latest_valid() is not None


def test_one_checkpoint_is_not_enough(tmp_path: Path):
    with pytest.raises(ValueError, match=r"checkpoint_keep is 1; the smallest valid value is 2"):
        Checkpoints(tmp_path, keep=1)


async def test_as_many_stay_as_are_to_be_kept(tmp_path: Path):
    for iteration in range(1, 6):
        await save(Checkpoints(tmp_path, keep=3), iteration)
    assert names(tmp_path) == [f"iteration-00000{number}" for number in (3, 4, 5)]


COPIES = [
    "iteration-000002-mine",
    "iteration-000002 (copy)",
    "iteration-2",
    "iteration-best",
    "copy-of-iteration-000002",
    "iteration-000099",  # by its name a later one; what it holds says that it is not
]


@pytest.mark.parametrize("name", COPIES)
async def test_a_copy_beside_the_checkpoints_is_left_alone(tmp_path: Path, name: str):
    checkpoints = Checkpoints(tmp_path)
    for iteration in (1, 2):
        await save(checkpoints, iteration)
    shutil.copytree(tmp_path / "iteration-000002", tmp_path / name)
    found = checkpoints.latest_valid()
    assert found is not None and found.path.name == "iteration-000002"
    for iteration in (3, 4, 5):
        await save(checkpoints, iteration)
    assert names(tmp_path) == sorted([name, "iteration-000004", "iteration-000005"])
    verify(tmp_path / name)
    assert checkpoints.at(None).state == state(5)
    with pytest.raises(ValueError, match="no checkpoint of iteration 99; the nearest is 5"):
        checkpoints.at(99)


async def test_a_file_and_a_link_of_a_checkpoints_name_are_in_nobodys_way(tmp_path: Path):
    directory = tmp_path / "checkpoints"
    checkpoints = Checkpoints(directory)
    await save(checkpoints, 1)
    (directory / "iteration-000002").write_text("notes")
    (directory / "iteration-000003").symlink_to(tmp_path)
    (directory / ".pruned-iteration-000000").write_text("")
    assert checkpoints.at(None).state == state(1)
    await save(checkpoints, 2)
    await save(checkpoints, 3)
    assert names(directory) == ["iteration-000002", "iteration-000003"]
    assert checkpoints.at(None).state == state(3) and tmp_path.is_dir()


# --- damage --------------------------------------------------------------------------------------

VICTIMS = ["policy/rank0/weights.bin", "prm.bin", "state.json", "manifest.json"]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, Path.unlink])
async def test_damage_is_named_and_the_one_before_is_used(tmp_path, caplog, victim, damage):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    await save(checkpoints, 1)
    await save(checkpoints, 2)
    damage(checkpoints.directory / "iteration-000002" / victim)
    with caplog.at_level(logging.WARNING, logger="rlstep.running.checkpoint"):
        found = checkpoints.latest_valid()
    assert found is not None and found.state == state(1)
    assert f"iteration-000002/{victim}" in caplog.text


async def test_an_unlisted_file_and_a_link_are_damage(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    await save(checkpoints, 1)
    path = checkpoints.directory / "iteration-000001"
    (path / "policy" / "extra.pt").write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match=r"policy/extra\.pt is not in the manifest"):
        verify(path)
    (path / "policy" / "extra.pt").unlink()
    verify(path)
    elsewhere = (path / "prm.bin").rename(tmp_path / "elsewhere")
    (path / "prm.bin").symlink_to(elsewhere)
    with pytest.raises(DamagedCheckpoint, match=r"prm\.bin is a link"):
        verify(path)


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"files": 3}', '{"files": {"state.json": 1}}', "\udcff"]
)
async def test_a_manifest_that_lies_is_refused(tmp_path: Path, manifest: str):
    checkpoints = Checkpoints(tmp_path)
    await save(checkpoints, 1)
    text = manifest.encode("utf-8", "surrogateescape")
    (tmp_path / "iteration-000001" / "manifest.json").write_bytes(text)
    with pytest.raises(DamagedCheckpoint, match="no valid checkpoint"):
        checkpoints.latest_valid()


async def test_random_bit_flips_never_pass(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    await save(checkpoints, 1)
    path = tmp_path / "iteration-000001"
    rng = np.random.default_rng(0)
    for _ in range(200):
        victim = path / VICTIMS[rng.integers(3)]  # of a manifest, insignificant bits may change
        before = victim.read_bytes()
        after = bytearray(before)
        after[rng.integers(len(after))] ^= 1 << int(rng.integers(8))
        victim.write_bytes(after)
        with pytest.raises(DamagedCheckpoint, match=victim.name.replace(".", r"\.")):
            verify(path)
        victim.write_bytes(before)
    verify(path)


async def test_a_damaged_future_makes_room_and_is_not_counted(tmp_path: Path):
    # 1 and 5 are there, 5 is damaged, so the run resumes from 1 and saves 3: now 1 and 3 must stay.
    checkpoints = Checkpoints(tmp_path)
    await save(checkpoints, 1)
    await save(checkpoints, 5)
    flip_a_bit(tmp_path / "iteration-000005" / "prm.bin")
    await save(checkpoints, 3)
    assert names(tmp_path) == ["iteration-000001", "iteration-000003"]
    flip_a_bit(tmp_path / "iteration-000003" / "prm.bin")
    await save(checkpoints, 3)
    found = checkpoints.latest_valid()
    assert found is not None and found.state.iteration == 3


# --- crashes -------------------------------------------------------------------------------------

# Saves iteration 3 beside 1 and 2 and dies, by SIGKILL, right before the n-th operation that
# changes the disk (or flushes to it). Prints the operations that were done.
CRASH = """
import asyncio, os, signal, sys
from pathlib import Path
from rlstep.running.checkpoint import Checkpoints, RunState

directory, fatal = Path(sys.argv[1]), int(sys.argv[2])
count, armed = 0, False
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "fsync")

def point(event, args):
    global count
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if not armed or not (writes or event in CHANGES):
        return
    count += 1
    print(event, args[0], flush=True)
    if count == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

def fsync(descriptor, real=os.fsync):
    point("fsync", (os.readlink(f"/proc/self/fd/{descriptor}"),))
    real(descriptor)

async def save(iteration):
    async with Checkpoints(directory).writing(RunState(iteration=iteration)) as folder:
        (folder / "policy").mkdir()
        for rank in range(2):
            (folder / "policy" / f"rank{rank}").write_bytes(b"w" * 5000)

sys.addaudithook(point)
os.fsync = fsync
if fatal < 0:
    asyncio.run(save(1))
    asyncio.run(save(2))
    sys.exit()
armed = True
asyncio.run(save(3))
"""


def crash(directory: Path, fatal: int) -> tuple[bool, list[str]]:
    """Whether it was killed, and the operations up to there."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(directory), str(fatal)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9, done.stdout.splitlines()


async def test_killed_at_any_write_point_a_checkpoint_remains(tmp_path: Path):
    directory = tmp_path / "checkpoints"
    operations: list[str] = []
    killed, point = True, 0
    assert not crash(tmp_path / "two", -1)[0]
    while killed:
        point += 1
        if directory.exists():
            os.rename(directory, tmp_path / f"after-{point - 1}")
        shutil.copytree(tmp_path / "two", directory)
        killed, operations = crash(directory, point)
        found = Checkpoints(directory).latest_valid()
        renamed = any(line.startswith("os.rename") for line in operations[: point - 1])
        assert found is not None and found.state.iteration == (3 if renamed else 2), operations[-1]
        # The next save works, reclaims what is torn and leaves two valid checkpoints.
        await save(Checkpoints(directory), 4)
        assert names(directory) == [f"iteration-00000{3 if renamed else 2}", "iteration-000004"]
        for path in directory.iterdir():
            verify(path)
    assert point > 20 and any(line.startswith("os.rmdir") for line in operations)


async def test_everything_is_on_the_disk_before_the_name_and_old_ones_go_last(tmp_path: Path):
    directory = tmp_path / "checkpoints"
    crash(directory, -1)
    _, operations = crash(directory, 0)
    commit = next(i for i, line in enumerate(operations) if line.startswith("os.rename"))
    inside = directory / ".writing-iteration-000003"
    written = ["policy/rank0", "policy/rank1", "state.json", "manifest.json", "policy", "."]
    flushed = {line.removeprefix("fsync ") for line in operations[:commit] if "fsync" in line}
    assert flushed == {str(inside / name) for name in written}
    assert operations[commit + 1] == f"fsync {directory}"
    destructive = [i for i, line in enumerate(operations) if line.startswith(("os.rem", "os.rmd"))]
    assert min(destructive) > commit + 1


def test_the_files_are_plain_json(tmp_path: Path):
    asyncio.run(save(Checkpoints(tmp_path), 7))
    path = tmp_path / "iteration-000007"
    assert json.loads((path / "state.json").read_text()) == {
        "iteration": 7,
        "versions": {"policy": 7},
        "counters": {"trained": 56},
    }
    listed = json.loads((path / "manifest.json").read_text())["files"]
    assert set(listed) == {"policy/rank0/weights.bin", "prm.bin", "state.json"}
    assert listed["policy/rank0/weights.bin"]["size"] == 3001
