"""Where a completion thinks, and where it speaks."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ThoughtTags:
    """The tags around a thought, as DeepSeek-R1 and its kin write them.

    Whoever reads completions reads them by this one setting: verifiers (a tentative answer inside a
    thought is none), `Format`, `Language`, splitters and monitors. A completion without tags is no
    thought, unless `opened`. Tags may be special tokens of the policy's tokenizer: what it samples
    of them stands in a completion's text. (Where a data set's text holds one, it is text.)
    """

    start: str = "<think>"
    """What begins a thought."""
    end: str = "</think>"
    """What ends a thought."""
    opened: bool = False
    """The prompt ends inside a thought: the chat template, or `template.suffix`, wrote its start.
    A completion that never ends it is then an unfinished thought."""

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not getattr(self, name).strip():
                nearest = type(self).__dataclass_fields__[name].default
                raise ValueError(
                    f"thoughts.{name} is {getattr(self, name)!r}; it must be a tag, for instance"
                    f" {nearest!r}"
                )
        if self.start == self.end:
            raise ValueError(
                f"thoughts.end is {self.end!r}, as thoughts.start; an end must be told from a start"
            )

    def after(self, text: str) -> str | None:
        """What stands after the last thought; None if that never ended.

        The last end counts, whatever thoughts quote; an end without a start is one whose start
        stands in the prompt. What was said before a thought is taken back by it.
        """
        _, ended, said = text.rpartition(self.end)
        if self.start in said or (self.opened and not ended):
            return None
        return said

    def whole(self, text: str) -> str:
        """The text with the start that stands in the prompt, unless it wrote that again."""
        written = not self.opened or text.lstrip().startswith(self.start)
        return text if written else self.start + text

    def blanked(self, text: str) -> str:
        """The text with white space for tags, each character where it was."""
        tags = f"{re.escape(self.start)}|{re.escape(self.end)}"
        return re.sub(tags, lambda match: " " * len(match[0]), text)
