"""Where a run's records go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlstep.interfaces.tasks import StepOracle
from rlstep.types import Group


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """What sinks know when they are opened."""

    name: str
    """Of the run."""
    folder: Path
    """Of the run; what a sink writes on this machine goes there."""
    config: Any
    """The configuration as JSON values, without secrets."""
    iterations: int
    """How many the run will have."""
    evaluation_every: int = 0
    """Iterations between evaluations beside that of the last, 0 without any."""
    resumed: int | None = None
    """The iteration whose checkpoint it goes on from, None for a new run. What an earlier part of
    the run told of later ones happens again, and is not to be there twice."""
    oracle: StepOracle | None = None
    """The task, where it knows which steps are right."""


@runtime_checkable
class OpenSink(Protocol):
    """A sink of a run that is under way."""

    def iteration(self, record: Mapping[str, float], groups: Sequence[Group]) -> None:
        """Take an iteration's metrics, and the groups it trained on.

        An iteration may come in several records: what it trained, then how it was evaluated.

        Args:
            record: metrics by name, and the iteration under 'iteration'.
            groups: sorted by prompt_id; empty for an evaluation.
        """
        ...

    def close(self, summary: Mapping[str, Any]) -> None:
        """Finish, also after an error; `summary['failed']` tells."""
        ...


class Sink(ABC):
    """One place that records go to.

    The loop waits for a sink: one that asks a service bounds its waits, or asks in a thread. What
    a sink raises while a run is under way is said when it begins, and counted ('sinks/failed' in
    the next record, 'sinks_failed' in the summary); the others get their records, the run goes on,
    and the sink is handed the next record. One that does not open gets none.
    """

    def check(self) -> None:  # noqa: B027  # most sinks need nothing
        """Refuse to work where it cannot: asked before a run.

        Raises:
            ValueError: a package or a setting is missing; the message says what to do.
        """

    @abstractmethod
    def open(self, start: RunStart) -> OpenSink:
        """Get ready. A sink that keeps nothing between records returns itself.

        Raises:
            RuntimeError: it cannot; the message says what to do.
        """
