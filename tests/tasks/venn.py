"""What follows from categorical statements, by trying every model: shares no code with rlstep.

A kind of thing is a set of terms that are true of it, one area of a Venn diagram. A model says
which kinds exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, combinations

Kind = frozenset[str]


@cache
def parts(text: str) -> tuple[str, Callable[[Kind], bool]]:
    """The quantifier of a statement, and which kinds it is about: those that an 'All' or a 'No'
    forbids, those of which a 'Some' needs one."""
    quantifier, subject, _, *middle, predicate = text.split()
    with_predicate = quantifier != "All" and not middle  # 'All a are b' forbids a without b
    return quantifier, lambda kind: subject in kind and (predicate in kind) == with_predicate


def terms(statements: Sequence[str]) -> list[str]:
    return sorted({word for text in statements for word in (text.split()[1], text.split()[-1])})


def subsets(items: Sequence) -> chain:
    return chain.from_iterable(combinations(items, n) for n in range(len(items) + 1))


def holds(text: str, model: Sequence[Kind]) -> bool:
    quantifier, about = parts(text)
    return any(map(about, model)) == (quantifier == "Some")


def entails_in_every_model(premises: Sequence[str], conclusion: str) -> bool:
    """By definition, over all models: 256 for three terms."""
    kinds = [frozenset(kind) for kind in subsets(terms([*premises, conclusion]))]
    return all(
        holds(conclusion, model)
        for model in subsets(kinds)
        if all(holds(premise, model) for premise in premises)
    )


def entails(premises: Sequence[str], conclusion: str) -> bool:
    """The same for more terms, from two facts: a kind that nothing forbids may exist or not; and
    the least that must exist is one kind for each 'Some'."""
    kinds = [frozenset(kind) for kind in subsets(terms([*premises, conclusion]))]
    rules = [parts(text) for text in premises]
    forbidden = [about for quantifier, about in rules if quantifier != "Some"]
    needed = [about for quantifier, about in rules if quantifier == "Some"]
    allowed = [kind for kind in kinds if not any(about(kind) for about in forbidden)]
    witnesses = [[kind for kind in allowed if about(kind)] for about in needed]
    assert all(witnesses), "the premises contradict each other"
    quantifier, about = parts(conclusion)
    if quantifier == "Some":
        return any(all(map(about, some)) for some in witnesses)
    return not any(map(about, allowed))
