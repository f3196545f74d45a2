"""Worked examples before each problem: what prompting alone gives, as a control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlstep.tasks.rows import digest
from rlstep.tensors.templates import Worked

SHOTS = "shots"
"""The entry of a prompt's meta that says how many examples stand before the problem."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A training problem as an example."""

    key: str
    """The same for every row of the problem."""
    worked: Worked


@dataclass(frozen=True, kw_only=True)
class Shots:
    """The same examples before every problem; one that is asked itself makes room for a spare."""

    number: int
    """Before each problem."""
    pool: tuple[Shown, ...] = ()
    """One more than that, where there are any."""

    def before(self, key: str) -> list[Worked]:
        """What stands before the problem of this key: never the problem itself."""
        return [shown.worked for shown in self.pool if shown.key != key][: self.number]


def last_keys(keys: Sequence[str], number: int) -> list[str]:
    """So many of the keys and a spare, the last ones by their hashes: what is held out are the
    first, and the order of the rows plays no part.

    Raises:
        ValueError: there are too few.
    """
    if len(keys) <= number:
        raise ValueError(
            f"task.template.shots is {number} of {len(keys)} training problems, and one more must"
            f" be left to ask; the largest valid value is {max(len(keys) - 1, 0)}"
        )
    return sorted(keys, key=digest)[-(number + 1) :]
