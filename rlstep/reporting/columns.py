"""Plain text in columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of columns, each as wide as it needs to be."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    for cells in (head, *body):
        yield "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()
