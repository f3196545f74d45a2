"""Checkpoints that are whole or absent.

    <directory>/iteration-000007/manifest.json    size and sha256 of every other file
                                 state.json       the RunState
                                 policy/ prm/ ... what the learners saved

A checkpoint is written beside its final name, flushed to the disk, and takes the name in one
rename; older ones go only after that. At every instant, whatever is killed, a checkpoint that was
once complete is still there or a newer one is. The directory lies on a file system that the driver
and every learner rank see. What else lies in it, such as somebody's copy of a checkpoint, is left
alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlstep.reporting.disk import as_disk_full

MANIFEST = "manifest.json"
STATE = "state.json"
_NAME = "iteration-"
_NAMED = re.compile(rf"{_NAME}(\d{{6}}|[1-9]\d{{6,}})")
_WRITING = ".writing-"
_PRUNED = ".pruned-"
_BLOCK = 1 << 20

logger = logging.getLogger(__name__)


class DamagedCheckpoint(ValueError):
    """A checkpoint is not what its manifest says. The message names the file."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where the run stands, beside what its learners hold."""

    iteration: int
    """Iterations that are complete."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """By model: 'policy' (weight syncs), 'prm', 'critic', ... (their updates)."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """What must go on counting where it stopped: prompts taken, rollouts generated, trained, ..."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    state: RunState


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    directory: Path
    keep: int = 2
    """So many of the newest stay, so that a damaged one has a predecessor."""

    def __post_init__(self) -> None:
        if self.keep < 2:
            raise ValueError(f"checkpoint_keep is {self.keep}; the smallest valid value is 2")

    @asynccontextmanager
    async def writing(self, state: RunState) -> AsyncIterator[Path]:
        """A folder to save into; leaving the block makes it the newest checkpoint.

        An error in the block, or a full disk, leaves the earlier checkpoints as they are.

        Raises:
            ValueError: this iteration already has a valid checkpoint.
            DiskFull: there is no room; says how much it takes.
            OSError: the disk is not writable.
        """
        temporary = await asyncio.to_thread(self._begin, state.iteration)
        try:
            yield temporary
            await asyncio.to_thread(self._commit, temporary, state)
        except Exception as error:
            full = as_disk_full(error, temporary, self._size(temporary))
            # A full disk must not stay full. What a straggling rank still writes, or a cancelled
            # save leaves, goes when the next save begins.
            shutil.rmtree(temporary, ignore_errors=True)
            raise full or error from error

    def latest_valid(self) -> Checkpoint | None:
        """The newest checkpoint whose every file is what the manifest says, None if none was saved.

        Raises:
            DamagedCheckpoint: there are checkpoints, and none is valid. Starting over would throw
                the run away, so that is for its owner to decide.
        """
        damage = []
        for path in reversed(self._saved()):
            try:
                verify(path)
            except DamagedCheckpoint as error:
                logger.warning("damaged checkpoint, trying the one before: %s", error)
                damage.append(str(error))
                continue
            return Checkpoint(path=path, state=_state(path))
        if damage:
            raise DamagedCheckpoint(
                f"{self.directory} has no valid checkpoint: {'; '.join(damage)}"
            )
        return None

    def at(self, iteration: int | None) -> Checkpoint:
        """The checkpoint of an iteration, the newest valid one without a number.

        Raises:
            ValueError: there is none; names those that there are, the nearest first.
            DamagedCheckpoint: it is not valid.
        """
        saved = {_number(path): path for path in self._saved()}
        if not saved:
            raise ValueError(
                f"{self.directory} has no checkpoint; a run saves them by checkpoint_every and"
                " checkpoint_seconds, when it is stopped, and at its end"
            )
        if iteration is None:
            newest = self.latest_valid()
            assert newest is not None, "one was there a moment ago"
            return newest
        if iteration not in saved:
            near = sorted(saved, key=lambda number: (abs(number - iteration), -number))
            others = f"; there is also {', '.join(map(str, near[1:]))}" if near[1:] else ""
            raise ValueError(
                f"{self.directory} has no checkpoint of iteration {iteration}; the nearest is"
                f" {near[0]}{others}"
            )
        verify(saved[iteration])
        return Checkpoint(path=saved[iteration], state=_state(saved[iteration]))

    def _size(self, temporary: Path) -> int:
        """Bytes of a checkpoint: those of the last one, or if more of what was written."""
        folders = [temporary, *self._saved()[-1:]]
        return max(sum((at / name).stat().st_size for name in _files(at)) for at in folders)

    def _saved(self) -> list[Path]:
        """Checkpoints, valid or not, oldest first."""
        found = [path for path in self.directory.glob(_NAME + "*") if _ours(path)]
        return sorted(found, key=_number)

    def _target(self, iteration: int) -> Path:
        return self.directory / f"{_NAME}{iteration:06d}"

    def _begin(self, iteration: int) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        for mark in (_WRITING, _PRUNED):
            for torn in self.directory.glob(mark + "*"):
                _delete(torn)
        target = self._target(iteration)
        if target.exists() or target.is_symlink():
            self._refuse_if_valid(target)
            self._remove(target)
        temporary = self.directory / (_WRITING + target.name)
        temporary.mkdir()
        return temporary

    def _refuse_if_valid(self, target: Path) -> None:
        try:
            verify(target)
        except DamagedCheckpoint as error:
            logger.warning("a damaged checkpoint makes room for a new one: %s", error)
            return
        raise ValueError(f"{target} is already saved; remove it to save this iteration again")

    def _commit(self, temporary: Path, state: RunState) -> None:
        (temporary / STATE).write_text(json.dumps(asdict(state), indent=2))
        files = {name: _measure(temporary / name, flush=True) for name in _files(temporary)}
        (temporary / MANIFEST).write_text(json.dumps({"files": files}, indent=2))
        _measure(temporary / MANIFEST, flush=True)
        for folder in _folders(temporary):
            _flush_folder(folder)
        target = self._target(state.iteration)
        os.replace(temporary, target)
        _flush_folder(self.directory)
        self._prune(target)

    def _prune(self, newest: Path) -> None:
        """Keep the newest and those just before it. What claims to be later was left behind by a
        resume from an earlier one, since it was damaged."""
        saved = self._saved()
        end = saved.index(newest) + 1
        kept = saved[max(0, end - self.keep) : end]
        for path in saved:
            if path not in kept:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        """Out of sight in one rename, then file by file."""
        pruned = self.directory / (_PRUNED + path.name)
        os.replace(path, pruned)
        _delete(pruned)


def _number(path: Path) -> int:
    return int(path.name.removeprefix(_NAME))


def _ours(path: Path) -> bool:
    """Whether a folder is a checkpoint by its name, and not somebody's copy of another one."""
    if not _NAMED.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    try:
        return int(_read_json(path / STATE)["iteration"]) == _number(path)
    except (OSError, ValueError, KeyError, TypeError):
        return True  # damaged, and so to be told of


def _delete(path: Path) -> None:
    """A folder with all that is in it; of a link the link alone."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def verify(path: Path) -> None:
    """Compare every file of a checkpoint with its manifest.

    Raises:
        DamagedCheckpoint: a file is missing, changed, cut short, a link, or not in the manifest.
    """
    if not (path / MANIFEST).is_file():
        raise DamagedCheckpoint(f"{path / MANIFEST} is missing")
    try:
        listed = dict(_read_json(path / MANIFEST)["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{path / MANIFEST} cannot be read: {error!r}") from error
    present = [name for name in _files(path) if name != MANIFEST]
    for name in sorted({STATE, *listed} - set(present)):
        raise DamagedCheckpoint(f"{path / name} is missing")
    for name in present:
        _verify_file(path / name, listed.get(name))


def _verify_file(path: Path, expected: Any) -> None:
    if expected is None:
        raise DamagedCheckpoint(f"{path} is not in the manifest")
    if path.is_symlink():
        raise DamagedCheckpoint(f"{path} is a link")
    if (found := _measure(path)) != expected:
        raise DamagedCheckpoint(f"{path} is {found}; the manifest says {expected}")


def _state(path: Path) -> RunState:
    return RunState(**_read_json(path / STATE))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _files(folder: Path) -> list[str]:
    """Names of everything but folders, relative to the folder, sorted."""
    inside = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in inside)


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and all within it, children first."""
    yield from sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    yield folder


def _measure(path: Path, flush: bool = False) -> dict[str, Any]:
    """Size in bytes and sha256 of a file, after `flush` safely on the disk."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
        if flush:
            os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
