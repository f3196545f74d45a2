"""How much of one text has to be changed to make another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Least insertions, deletions and replacements that make one sequence of the other
    (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            cheapest = min(diagonal + (one != other), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], cheapest
    return row[-1]
