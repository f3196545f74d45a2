"""What the readers of files share: epochs over rows, what is held out, and what is left out."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from rlstep.checks import at_least, named
from rlstep.interfaces import Examples
from rlstep.tasks.rows import Row
from rlstep.types import LabelSamples, PairSamples

ItemT = TypeVar("ItemT")
SamplesT = TypeVar("SamplesT", LabelSamples, PairSamples)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FromRows(Examples, Generic[ItemT, SamplesT]):
    """Examples of the rows of a file.

    The order is drawn anew in each epoch; the last batch of one may be smaller. Nothing is cut: a
    row that is longer than `longest` is an error.
    """

    path: str
    """A file or dataset (see `read_rows`)."""
    evaluation: str = ""
    """Another one, which is held out; '' holds out nothing."""
    batch: int = 32
    """Solutions, or pairs, of one update."""
    epochs: int = 1
    """Passes over all of them."""
    longest: int = 4096
    """Most tokens of one sequence, its prompt included."""

    def __post_init__(self) -> None:
        named("examples.path", self.path, "file or the dataset")
        for name in ("batch", "epochs", "longest"):
            at_least(f"examples.{name}", getattr(self, name), 1)

    def batches(self, tokenizer: Any, seed: int) -> Iterator[SamplesT]:
        items = self._read(self.path, tokenizer)
        for epoch in range(self.epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(items))
            for start in range(0, len(items), self.batch):
                chosen = [items[i] for i in order[start : start + self.batch]]
                yield self.samples(chosen, tokenizer)

    def held_out(self, tokenizer: Any) -> SamplesT | None:
        if not self.evaluation:
            return None
        return self.samples(self._read(self.evaluation, tokenizer), tokenizer)

    def _read(self, path: str, tokenizer: Any) -> list[ItemT]:
        left_out = LeftOut()
        items = self.items(path, tokenizer, left_out)
        left_out.report(path)
        if not items:
            raise ValueError(f"{path}: none of its rows is an example")
        return items

    @abstractmethod
    def items(self, path: str, tokenizer: Any, left_out: LeftOut) -> list[ItemT]:
        """What a file's rows hold, checked.

        Raises:
            ValueError: a row does not fit; names the file, its line and the field.
        """

    @abstractmethod
    def samples(self, items: Seq[ItemT], tokenizer: Any) -> SamplesT:
        """What is trained of them."""

    def check_length(self, row: Row, column: str, tokens: int) -> None:
        """Raises ValueError where a sequence is too long."""
        if tokens > self.longest:
            raise row.error(
                column, f"makes {tokens} tokens with its prompt; examples.longest is {self.longest}"
            )


@dataclass
class LeftOut:
    """Rows that are no examples, by the reason: one warning says how many and where the first is.

    They are right as rows go (a pair of equal sides, a problem that its labeler called broken).
    What is broken itself is an error.
    """

    count: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, row: Row, reason: str) -> None:
        self.count[reason] += 1
        self.first.setdefault(reason, row.place)

    def report(self, path: str) -> None:
        for reason, number in self.count.items():
            first = self.first[reason]
            logger.warning("%s: %d left out, %s; the first: %s", path, number, reason, first)
