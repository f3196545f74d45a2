"""From places to cut at to steps."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from rlstep.types import Step


def partition(cuts: Iterable[int], tokens: int) -> tuple[Step, ...]:
    """The steps of `tokens` tokens between cuts; at 0, at `tokens` or twice a cut does nothing."""
    return tuple(Step(start=a, end=b) for a, b in pairwise(sorted({0, *cuts, tokens})))
