"""From scored groups to what a loss takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from rlstep.types import Group, Samples


class SampleBuilder(ABC):
    """Turns scored groups into what a loss takes: pairs, advantages or labels."""

    makes: ClassVar[type]
    """The kind of samples, one of the `Samples` records."""
    sources: ClassVar[frozenset[str]] = frozenset({"outcome"})
    """Scores it reads; a run that does not produce them is refused when it is configured."""
    laws: ClassVar[frozenset[str]] = frozenset()
    """Names of the laws in tests/test_sample_laws.py that hold for it, beside the general ones."""

    @abstractmethod
    def samples(self, groups: Sequence[Group]) -> Samples:
        """See the whole batch at once. Deterministic: groups arrive sorted by prompt_id."""
