"""Hugging Face folders of a run: whole or absent, never written over by a command."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlstep.reporting.card import sign
from rlstep.reporting.disk import DiskFull, as_disk_full
from rlstep.reporting.run_directory import RunDirectory

if TYPE_CHECKING:
    from rlstep.actors.roles import RunRoles
    from rlstep.running.checkpoint import RunState

logger = logging.getLogger(__name__)


@contextmanager
def writing(target: Path, needed: int = 0) -> Iterator[Path]:
    """A folder to write into; leaving the block gives it its name.

    Args:
        target: an empty folder there makes room, and nothing else does.
        needed: bytes that it takes, for the message of a full disk.

    Raises:
        ValueError: there is something of that name.
        DiskFull: there is no room.
    """
    check_free(target)
    temporary = target.with_name(f".writing-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # one that was killed while it wrote
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, target)
    except Exception as error:
        raise as_disk_full(error, target, needed) or error from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(target: Path) -> None:
    """Raises: ValueError: there is something of that name, which is no empty folder."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"{target} exists, and is not written over; name another with --out")


async def export_iteration(roles: RunRoles, directory: RunDirectory, state: RunState) -> None:
    """The policy as it is, with its card. One that an earlier run of this iteration left is
    replaced, as its metrics are; a full disk is named, and the run goes on.

    Args:
        directory: of the run.
        state: where it stands.
    """
    target = directory.export_of(state.iteration)
    try:
        shutil.rmtree(target, ignore_errors=True)
        with writing(target) as folder:
            await roles.policy.export(str(folder))
            await asyncio.to_thread(sign, folder, directory, state.iteration, state.versions)
    except DiskFull as error:
        logger.error("%s; the run goes on without this export", error)
