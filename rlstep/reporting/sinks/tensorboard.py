"""TensorBoard: event files in the run's directory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.checks import at_least, needs_extra
from rlstep.interfaces import RunStart, Sink
from rlstep.measuring.metrics import Record
from rlstep.reporting.rows import STEP_COLUMNS, step_rows
from rlstep.types import Group

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True, kw_only=True)
class TensorBoard(Sink):
    """Metrics by iteration and rollouts as text, in <run>/tensorboard: `tensorboard --logdir runs`.

    A resume cuts back what is there to its checkpoint's iteration: the `purge_step` that writers
    have is heeded by none of TensorBoard's own readers of texts (2.21).
    """

    table_groups: int = 4
    """Groups of every iteration whose steps are shown; rollouts.jsonl has all."""

    def __post_init__(self) -> None:
        at_least("tensor_board.table_groups", self.table_groups, 0)

    def check(self) -> None:
        needs_extra("sinks: TensorBoard", "tensorboard")

    def open(self, start: RunStart) -> _OpenTensorBoard:
        from torch.utils.tensorboard import SummaryWriter

        folder = start.folder / "tensorboard"
        for file in folder.glob("events.out.tfevents.*"):
            _cut(file, start.resumed or -1)
        writer = SummaryWriter(str(folder), flush_secs=10)
        if not start.resumed:
            writer.add_text("config", _block(json.dumps(start.config, indent=2)), 0)
        return _OpenTensorBoard(writer, self.table_groups)


@dataclass
class _OpenTensorBoard:
    writer: SummaryWriter
    table_groups: int

    def iteration(self, record: Record, groups: Sequence[Group]) -> None:
        iteration = int(record["iteration"])
        for name, value in record.items():
            if name != "iteration":
                self.writer.add_scalar(name, value, iteration)
        if shown := groups[: self.table_groups]:
            self.writer.add_text("rollouts", _steps(iteration, shown), iteration)

    def close(self, summary: Mapping[str, Any]) -> None:
        self.writer.close()


def _steps(iteration: int, groups: Sequence[Group]) -> str:
    """A heading a rollout, and its steps as they stand, not read as Markdown."""
    lines, last = [], None
    for values in step_rows(iteration, groups):
        row = dict(zip(STEP_COLUMNS, values, strict=True))
        if row["rollout_id"] != last:
            last = row["rollout_id"]
            lines.append(f"**{row['prompt_id']}**, {last}: {row['outcome']}\n")
        scores = f" ({row['scores']})" if row["scores"] else ""
        lines.append(_block(f"{row['step']}{scores}: {row['text']}"))
    return "\n".join(lines)


def _block(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _cut(file: Path, iteration: int) -> None:
    """Drop the events of later iterations, and a torn last one."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader  # pyright: ignore[reportMissingImports]
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportMissingImports]
    from tensorboard.summary.writer.record_writer import RecordWriter  # pyright: ignore[reportMissingImports]

    events = RawEventFileLoader(str(file)).Load()
    kept = [event for event in events if Event.FromString(event).step <= iteration]
    if not kept:
        file.unlink()
        return
    # Dots in front hide it from a TensorBoard that looks at the folder meanwhile.
    part = file.with_name(f".{file.name}")
    with part.open("wb") as out:
        records = RecordWriter(out)
        for event in kept:
            records.write(event)
    os.replace(part, file)
