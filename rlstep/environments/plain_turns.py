"""Turns without a chat template."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from rlstep.interfaces import Between, TurnFormat
from rlstep.tensors.templates import continuation_ids


@dataclass(frozen=True, kw_only=True)
class PlainTurns(TurnFormat):
    """The observation between two texts, for a policy that was trained so.

    A special token's text in an observation is text. What ended the turn stays where it is.
    """

    before: str = "\n"
    """What separates a turn from what is observed after it."""
    after: str = "\n"
    """What separates that from the next turn."""

    def __post_init__(self) -> None:
        if not self.before + self.after:
            raise ValueError(
                "format.before and format.after are both ''; an observation of no text would leave"
                " nothing between two turns: name a separator, such as a newline"
            )

    def between(self, tokenizer: Any, stop_token_ids: Collection[int] = ()) -> Between:
        def ids(text: str, last: int) -> list[int]:
            return continuation_ids(tokenizer, self.before + text + self.after)

        return ids
