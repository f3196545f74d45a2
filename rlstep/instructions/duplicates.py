"""Texts that say what another one says already."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from rlstep.checks import at_least, between

DUPLICATE, NEAR = "duplicate", "near_duplicate"
"""Reasons for which a text is left out."""


def normalised(text: str) -> str:
    """What is compared: words and numbers in small letters, with one space between them. Accents
    are kept, and full-width forms are their plain ones."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Two texts are the same where they are after `normalised`, and nearly the same where so large
    a share of their runs of words is common to both (Jaccard 1901)."""

    words: int = 3
    """Length of a run; a shorter text is one run."""
    share: float = 0.7
    """Of the common runs in all runs of the two: from there on they are near duplicates. 1 leaves
    only those with exactly the same runs."""

    def __post_init__(self) -> None:
        at_least("duplicates.words", self.words, 1)
        between("duplicates.share", self.share, 1e-6, 1.0)

    def among(self, texts: Iterable[str]) -> Known:
        """What is known to begin with, duplicates and all."""
        known = Known(self)
        for text in texts:
            known.add(text)
        return known

    def runs(self, text: str) -> frozenset[str]:
        """Runs of words of a text after `normalised`."""
        words = normalised(text).split()
        last = max(1, len(words) - self.words + 1)
        return frozenset(" ".join(words[i : i + self.words]) for i in range(last))


class Known:
    """Texts that are there, so that one that comes can be compared with all of them."""

    def __init__(self, rule: Duplicates) -> None:
        self._rule = rule
        self._exact: set[str] = set()
        self._runs: list[frozenset[str]] = []
        self._having: defaultdict[str, list[int]] = defaultdict(list)
        """Positions of the texts with a run: only they are compared."""

    def add(self, text: str) -> str | None:
        """Add a text that is new; of another one say why it is not, and leave it out."""
        if (plain := normalised(text)) in self._exact:
            return DUPLICATE
        runs = self._rule.runs(text)
        if any(self._near(runs, self._runs[i]) for i in {i for r in runs for i in self._having[r]}):
            return NEAR
        for run in runs:
            self._having[run].append(len(self._runs))
        self._exact.add(plain)
        self._runs.append(runs)
        return None

    def _near(self, a: frozenset[str], b: frozenset[str]) -> bool:
        return len(a & b) >= self._rule.share * len(a | b)
