"""Finding passages in a folder of text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from rlstep.checks import at_least, between, positive
from rlstep.interfaces import Tool

_KINDS = (".txt", ".md")


@dataclass(frozen=True, kw_only=True)
class Retrieval(Tool):
    """The passages of a folder's texts (.txt and .md, in folders below it too) that fit a query.

    A passage is what stands between blank lines, and is answered whole, under the name of its file.
    BM25 (Robertson and Zaragoza 2009, doi:10.1561/1500000019, section 3.4): a passage's score is
    the sum over the query's words, without their case, of idf f / (f + k1 (1 - b + b l / L)), where
    f is how often the word stands in it, l how many words it has, L their mean, and idf, of a word
    that n of N passages have, ln(1 + (N - n + 1/2) / (n + 1/2)), which is never negative. A tie
    goes to the passage that comes first by file and place, so that a query always has the same
    answer.

    The folder is read once a process, on the machines of the scorers.
    """

    name: str = "search"
    """What a call names it by."""
    description: str = "Finds the passages that fit a query, the best first."
    """What it does, in words for the policy."""
    parameters: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "words to look for"}},
        "required": ["query"],
    }

    folder: str
    """Absolute."""
    results: int = 3
    """Most passages of an answer."""
    k1: float = 1.2
    """How much a word's second occurrence adds to its first."""
    b: float = 0.75
    """How much a long passage is held to be long: 0 not at all, 1 in full."""

    def __post_init__(self) -> None:
        if not Path(self.folder).is_absolute():
            raise ValueError(
                f"retrieval.folder is {self.folder!r}; processes of other folders read it, so it"
                f" must be absolute: {str(Path(self.folder).absolute())!r}"
            )
        at_least("retrieval.results", self.results, 1)
        positive("retrieval.k1", self.k1)
        between("retrieval.b", self.b, 0.0, 1.0)

    def check(self, deadline_s: float) -> None:
        """Raises: ValueError: there is no text in the folder, or a file that is no UTF-8."""
        if not self._index.passages:
            kinds = " or ".join(_KINDS)
            raise ValueError(
                f"retrieval.folder is {self.folder!r}, where no {kinds} file holds a word"
            )

    def call(self, arguments: Mapping[str, Any]) -> str:
        found = self._index.best(arguments["query"], self.results, self.k1, self.b)
        if not found:
            return "[nothing was found]"
        return "\n\n".join(f"[{file}]\n{text}" for file, text in found)

    @cached_property
    def _index(self) -> _Index:
        return _Index(_passages(Path(self.folder)))


class _Index:
    """The words of passages."""

    def __init__(self, passages: list[tuple[str, str]]) -> None:
        self.passages = passages
        self._lengths = list[int]()
        self._holding: dict[str, list[tuple[int, int]]] = {}
        """By word the passages that have it, and how often."""
        for number, (_, text) in enumerate(passages):
            words = Counter(_words(text))
            self._lengths.append(words.total())
            for word, times in words.items():
                self._holding.setdefault(word, []).append((number, times))

    def best(self, query: str, most: int, k1: float, b: float) -> list[tuple[str, str]]:
        """File and text of the passages that have a word of the query."""
        scores: dict[int, float] = {}
        mean = sum(self._lengths) / max(1, len(self._lengths))
        for word, asked in sorted(Counter(_words(query)).items()):  # one order of the sums
            holding = self._holding.get(word, [])
            rest = len(self.passages) - len(holding)
            idf = math.log(1 + (rest + 0.5) / (len(holding) + 0.5))
            for number, times in holding:
                long = 1 - b + b * self._lengths[number] / mean
                gain = asked * idf * times / (times + k1 * long)
                scores[number] = scores.get(number, 0.0) + gain
        order = sorted(scores, key=lambda number: (-scores[number], number))
        return [self.passages[number] for number in order[:most]]


def _passages(folder: Path) -> list[tuple[str, str]]:
    """By file and place; a folder that is not there has none."""
    files = sorted(f for f in folder.rglob("*") if f.suffix in _KINDS and f.is_file())
    found = list[tuple[str, str]]()
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"retrieval.folder: {file} is no UTF-8: {error}") from error
        name = file.relative_to(folder).as_posix()
        parts = (part.strip() for part in re.split(r"\n\s*\n", text))
        found += [(name, part) for part in parts if _words(part)]
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
