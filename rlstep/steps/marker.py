"""Steps that announce themselves: 'Step 1: ...'."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.steps.pattern import PatternSplitter


@dataclass(frozen=True, kw_only=True)
class MarkerSplitter(PatternSplitter):
    """A line that begins with 'Step k:' begins a step; the marker belongs to it.

    What stands before the first marker is a step too: where the prompt ends in 'Step 1:', it is the
    first one. Spaces, '#' and '*' (Markdown) may stand before the word.
    """

    pattern: str = r"(?m)^(?=[ \t#*]*Step \d+:)"
