"""Categorical statements, and the syllogisms that make a third of two of them.

    A  All bakoq are demuq         E  No bakoq are demuq
    I  Some bakoq are demuq        O  Some bakoq are not demuq

They are read as modern logic does: 'All' and 'No' do not say that there is anything of the kind.
Then 15 of the 256 forms of a syllogism are valid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from itertools import product

_STATEMENT = re.compile(r"(All|No|Some) ([a-z]+) are (not )?([a-z]+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """One of the four forms, about two terms."""

    particular: bool
    """I and O: at least one such thing exists. A and E are universal."""
    negative: bool
    """E and O."""
    subject: str
    predicate: str

    def __str__(self) -> str:
        if not self.particular:
            return f"{'No' if self.negative else 'All'} {self.subject} are {self.predicate}"
        return f"Some {self.subject} are {'not ' if self.negative else ''}{self.predicate}"

    @property
    def terms(self) -> frozenset[str]:
        return frozenset((self.subject, self.predicate))

    @property
    def distributed(self) -> frozenset[str]:
        """The terms of which it says something about every member."""
        subject = () if self.particular else (self.subject,)
        return frozenset((*subject, self.predicate) if self.negative else subject)

    @property
    def turnable(self) -> bool:
        """Whether it says something else when its terms change places: A and O."""
        return self.particular == self.negative

    @property
    def turned(self) -> Statement:
        """The same form with its terms in each other's place."""
        return replace(self, subject=self.predicate, predicate=self.subject)

    @property
    def meaning(self) -> Statement:
        """One and the same for statements that say the same: of E and I the order of the terms
        does not matter."""
        return self if self.turnable or self.subject < self.predicate else self.turned

    @property
    def contradictory(self) -> Statement:
        """True exactly where this one is false."""
        return replace(self, particular=not self.particular, negative=not self.negative)


def read(text: str) -> Statement | None:
    """The statement that a text is, or None where it is none."""
    match = _STATEMENT.fullmatch(text)
    if match is None or match[2] == match[4] or (match[3] and match[1] != "Some"):
        return None
    return Statement(match[1] == "Some", bool(match[3]) or match[1] == "No", match[2], match[4])


def follows(first: Statement, second: Statement, conclusion: Statement) -> bool:
    """Whether two premises that share one term make a valid syllogism with the conclusion.

    By the rules of terms, quality and quantity, which together are necessary and sufficient: the
    middle term is distributed in a premise, and so is what the conclusion distributes; as many
    premises as conclusions are negative, and particular.
    """
    if (
        first.negative + second.negative != conclusion.negative
        or first.particular + second.particular != conclusion.particular
    ):
        return False
    middle = first.terms & second.terms
    return (
        len(middle) == 1
        and conclusion.terms == first.terms ^ second.terms
        and middle | conclusion.distributed <= first.distributed | second.distributed
    )


def conclusions(first: Statement, second: Statement) -> list[Statement]:
    """What follows from two premises: one statement, in both orders of its terms where that makes
    no difference, or none."""
    outer = sorted(first.terms ^ second.terms)
    if len(outer) != 2:
        return []
    hasty = blend(first, second, outer[0], outer[1])
    return [found for found in (hasty, hasty.turned) if follows(first, second, found)]


def blend(first: Statement, second: Statement, subject: str, predicate: str) -> Statement:
    """What two premises sound like: negative or particular if one of them is.

    People tend to accept it unchecked, the atmosphere effect (Woodworth and Sells 1935). The
    conclusion of a valid syllogism has this form, but this form does not make a syllogism valid.
    """
    return Statement(
        first.particular or second.particular,
        first.negative or second.negative,
        subject,
        predicate,
    )


def premises_for(conclusion: Statement, middle: str) -> list[tuple[Statement, Statement]]:
    """Every pair of premises from which the conclusion follows by way of `middle`; in each the
    premise about the conclusion's subject comes first."""
    return [
        (first, second)
        for first, second in product(
            about(conclusion.subject, middle), about(middle, conclusion.predicate)
        )
        if follows(first, second, conclusion)
    ]


def about(term: str, other: str) -> list[Statement]:
    """The eight statements about two terms."""
    return [
        Statement(particular, negative, *terms)
        for particular, negative in product((True, False), repeat=2)
        for terms in ((term, other), (other, term))
    ]


def way(statements: Seq[Statement], start: str, end: str) -> list[Statement] | None:
    """The fewest statements that lead from one term to another, each sharing a term with the next.

    None where nothing does.
    """
    ways: dict[str, list[Statement]] = {start: []}
    reached = [start]
    for term in reached:  # grows while it is gone through: breadth first
        for statement in statements:
            for other in statement.terms - {term} if term in statement.terms else ():
                if other not in ways:
                    ways[other] = [*ways[term], statement]
                    reached.append(other)
    return ways.get(end)
