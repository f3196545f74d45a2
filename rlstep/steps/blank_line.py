"""One step per paragraph."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.steps.pattern import PatternSplitter


@dataclass(frozen=True, kw_only=True)
class BlankLineSplitter(PatternSplitter):
    """Steps are paragraphs, parted by one or more blank lines (which may hold spaces)."""

    pattern: str = r"\n\s*\n"
