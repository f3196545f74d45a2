"""What happened in a run, event by event, with the time and the ids of what it happened to."""

from __future__ import annotations

from typing import Any

from tests.faults.virtual_time import now

Event = dict[str, Any]


class History:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.answers: list[Any] = []
        """What engines wrote; an event says its place."""

    def note(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, "at": round(now(), 3), **fields})

    def of(self, event: str) -> list[Event]:
        return [found for found in self.events if found["event"] == event]
