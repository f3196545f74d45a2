"""Labels that are there before training: what `rlstep sft` and `rlstep fit` train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from rlstep.types import Samples


class Examples(ABC):
    """Data with its labels: solutions to learn by heart, steps that were judged, preferences."""

    makes: ClassVar[type]
    """Of which kind, one of the `Samples` records."""

    @abstractmethod
    def batches(self, tokenizer: Any, seed: int) -> Iterator[Samples]:
        """The samples of one update after the other, with an end or without one.

        The same ones for the same seed, whatever was done before: a training that is resumed skips
        those that it has seen.

        Args:
            tokenizer: the model's, a fast Hugging Face tokenizer.

        Raises:
            ValueError: the data do not fit; names the file, its line and the field. At the first
                batch at the latest.
        """

    def held_out(self, tokenizer: Any) -> Samples | None:
        """What the model is measured on and never trained on; None for nothing."""
        return None


class StartModel(ABC):
    """Weights to begin with that no folder has yet."""

    @abstractmethod
    def write(self, folder: str, seed: int) -> None:
        """A Hugging Face folder with model and tokenizer, the same for the same seed."""
