"""Weights & Biases: offline without a key, online with one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.checks import at_least
from rlstep.interfaces import RunStart, Sink
from rlstep.measuring.metrics import Record
from rlstep.reporting.rows import STEP_COLUMNS, step_rows
from rlstep.types import Group

if TYPE_CHECKING:
    import wandb


def wandb_mode() -> str:
    """WANDB_MODE where it is set; otherwise online with WANDB_API_KEY, offline without."""
    return os.environ.get("WANDB_MODE") or (
        "online" if os.environ.get("WANDB_API_KEY") else "offline"
    )


@dataclass(frozen=True, kw_only=True)
class Wandb(Sink):
    """One wandb run, the same after a resume; its files lie in the run's directory."""

    project: str = "rlstep"
    """At wandb, of the entity that the key belongs to."""
    table_groups: int = 4
    """Groups of every iteration whose steps go into the table; rollouts.jsonl has all."""

    def __post_init__(self) -> None:
        at_least("wandb.table_groups", self.table_groups, 0)

    def check(self) -> None:
        import wandb

        try:
            wandb.Settings(mode=wandb_mode())  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            raise ValueError(
                f"WANDB_MODE is {wandb_mode()!r}; it is 'online', 'offline', 'shared' or 'disabled'"
            ) from error

    def open(self, start: RunStart) -> _OpenWandb:
        import wandb

        mode = wandb_mode()
        # No sight of argv, environment, console or git remote: a secret may stand in any of them.
        settings = wandb.Settings(
            x_disable_meta=True,
            disable_git=True,
            console="off",
            save_code=False,
            silent=mode != "online",  # online, its address is printed
        )
        # Tables wait here for their upload; wandb's own choice is the home directory.
        os.environ["WANDB_DATA_DIR"] = str(start.folder / "wandb")
        try:
            run = wandb.init(
                project=self.project,
                name=start.name,
                id=_run_id(start.folder / "wandb_run_id"),
                resume="allow",
                dir=str(start.folder),
                mode=mode,  # pyright: ignore[reportArgumentType]
                config={"config": start.config, "iterations": start.iterations},
                settings=settings,
            )
        except Exception as error:
            raise RuntimeError(
                f"wandb does not start in mode {mode!r}: {error}; check WANDB_API_KEY and the"
                " network, or set WANDB_MODE=offline and upload later with `wandb sync`"
            ) from error
        run.define_metric("iteration")
        run.define_metric("*", step_metric="iteration")
        return _OpenWandb(run, self.table_groups)


@dataclass
class _OpenWandb:
    run: wandb.Run
    table_groups: int

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        import wandb

        iteration = int(record["iteration"])
        row: dict[str, Any] = dict(record)
        if groups:
            steps = step_rows(iteration, groups[: self.table_groups])
            row["rollouts"] = wandb.Table(columns=list(STEP_COLUMNS), data=[list(s) for s in steps])
        # An explicit step, since an offline run that is resumed would count from 0 again; and not
        # committed before the next one, so that an iteration's evaluation joins its row.
        self.run.log(row, step=iteration)

    def close(self, summary: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(summary))
        self.run.finish(exit_code=int(summary["failed"]))


def _run_id(path: Path) -> str:
    """Drawn once a run and kept beside its files, so that a resume finds its wandb run."""
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    return path.read_text()
