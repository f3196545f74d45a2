"""Hugging Face folders of a run: whole or absent, never written over by a command."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.reporting.card import sign
from rlstep.reporting.disk import DiskFull, as_disk_full
from rlstep.reporting.learned_from import write_learned
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
    await _export_policy(directory.export_of(state.iteration), roles, directory, state)


async def export_all(roles: RunRoles, directory: RunDirectory, state: RunState) -> None:
    """The policy as export/, and every step model that was trained. A stop leaves no half of one.

    Raises:
        DiskFull: there is no room for the policy.
    """

    await in_the_place_of(directory.export, _policy(roles, directory, state))
    await export_step_models(roles, directory, state)


async def keep_best(metric: str, roles: RunRoles, directory: RunDirectory, state: RunState) -> None:
    """The policy as exports/best, where no evaluation before was as good.

    Args:
        metric: by which, from the run's metrics.
        state: where it stands, just evaluated.
    """
    found = {int(r["iteration"]): float(r[metric]) for r in directory.metrics if metric in r}
    if (now := found.pop(state.iteration, None)) is None:
        logger.warning("%s was not measured: no verdict came; exports/best stays", metric)
    elif now > max(found.values(), default=float("-inf")):
        await _export_policy(directory.exports / "best", roles, directory, state)


async def _export_policy(
    target: Path, roles: RunRoles, directory: RunDirectory, state: RunState
) -> None:
    await _replaced(target, _policy(roles, directory, state))


def _policy(
    roles: RunRoles, directory: RunDirectory, state: RunState
) -> Callable[[Path], Awaitable[None]]:
    async def write(folder: Path) -> None:
        await roles.policy.export(str(folder))
        await asyncio.to_thread(sign, folder, directory, state.iteration, state.versions)

    return write


async def export_step_models(roles: RunRoles, directory: RunDirectory, state: RunState) -> None:
    """Every step model that was trained, as exports/<source>, with its card and with hashes of the
    problems that it learned from; a full disk is named."""
    trained = [role for role in roles.step_models if role.model.loss is not None]
    prompt_ids = set[str]()
    if trained:
        prompt_ids = await asyncio.to_thread(lambda: {r["prompt_id"] for r in directory.rollouts})
    for role in trained:
        source, learner, began_with = role.model.source, role.learner, role.model.learner.model.path

        async def write(
            folder: Path, source: str = source, learner: Any = learner, began: str = began_with
        ) -> None:
            await learner.export(str(folder))
            write_learned(folder, prompt_ids, began)
            versions = {source: state.versions.get(source, 0)}
            await asyncio.to_thread(
                sign, folder, directory, state.iteration, versions, source=source
            )

        await _replaced(directory.exports / source, write)


async def _replaced(target: Path, write: Callable[[Path], Awaitable[None]]) -> None:
    try:
        await in_the_place_of(target, write)
    except DiskFull as error:
        logger.error("%s; the run goes on without this export", error)


async def in_the_place_of(target: Path, write: Callable[[Path], Awaitable[None]]) -> None:
    """Write a folder, and give it the name of one that there may be; what ends it early leaves
    none.

    Raises:
        DiskFull: there is no room.
    """
    shutil.rmtree(target, ignore_errors=True)
    with writing(target) as folder:
        await write(folder)
