"""One step per line."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.steps.pattern import PatternSplitter


@dataclass(frozen=True, kw_only=True)
class NewlineSplitter(PatternSplitter):
    """Every line is a step; blank lines join the step before them."""

    pattern: str = r"\n"
