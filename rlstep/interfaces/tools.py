"""What a policy can ask for in a conversation, and how it asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from rlstep.types import BrokenCall, Call


class Tool(ABC):
    """Something that answers calls. Runs where its environment does, in processes that can be
    killed; several calls may be answered at the same time, each in a thread of its own."""

    name: str
    """What a call names it by."""
    description: str
    """What it does, in words for the policy."""
    parameters: ClassVar[Mapping[str, Any]]
    """A JSON schema of the arguments: an object. What it does not name is refused unless it says
    otherwise, and what does not fit is told the policy; `call` never sees it."""
    deterministic: ClassVar[bool] = True
    """Whether the same arguments are always answered the same: see `Environment.replays`."""

    @abstractmethod
    def call(self, arguments: Mapping[str, Any]) -> str:
        """The answer, as the policy reads it. May hang or end its process: the rollout is a Failure
        then.

        Raises:
            ValueError: the arguments cannot be answered. Its text is what the policy reads; the
                call counts as broken. Anything else that is raised is a Failure of the rollout.
        """

    def check(self, deadline_s: float) -> None:  # noqa: B027  # most need nothing
        """Refuse to work where it cannot: asked before a run, and in every process it runs in.

        Args:
            deadline_s: after so long a call is ended with its process, and is a Failure.

        Raises:
            ValueError: what is missing, or the field and its nearest valid value.
        """

    def schema(self) -> dict[str, Any]:
        """Name, description and parameters, as chat templates take them."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}


class CallFormat(ABC):
    """How calls are written in a turn."""

    @property
    def tags(self) -> tuple[str, ...]:
        """What calls are marked with. Of these a special token stays in a turn's text."""
        return ()

    @abstractmethod
    def read(self, text: str) -> list[Call | BrokenCall]:
        """Every call in a text, in order, and what was meant as one; empty for a text without.

        Args:
            text: what was said, thoughts left out.
        """
