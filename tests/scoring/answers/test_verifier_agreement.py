"""Agreement with Math-Verify on answers that nobody wrote to deceive. Needs ../shared/data."""

from __future__ import annotations

from collections import Counter

import pytest

from rlstep.scoring.answers.math_answer import compare
from rlstep.types import Verdict
from tests.scoring.answers.mathematics import DATA, EQUIVALENTS, benign_pairs, references

GOAL = 0.999
WRONG_THERE = {"in brackets", "named"}
"""Where Math-Verify (0.9.0) refuses an answer for itself: with a thousands comma or a unit inside
inline brackets, and of 'x = word' the word (findings/math_verify_brackets.sh)."""

needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is absent")


def by_math_verify(found: str, reference: str) -> bool:
    """Its own verdict, as its users call it: the reference first, both parsers, no timeouts.

    Its second parser evaluates; here it reads what this repository wrote, and published answers.
    """
    from math_verify import parse, verify

    def read(answer: str) -> list:
        return parse(rf"\boxed{{{answer}}}", parsing_timeout=None)  # type: ignore[arg-type]

    return verify(read(reference), read(found), timeout_seconds=None)


def check_agreement(answers: list[str]) -> None:
    """Counts agreements, prints the share and every disagreement, and checks symmetry."""
    pairs = list(benign_pairs(answers))
    disagreements = []
    for name, found, reference in pairs:
        ours = compare(found, reference) is Verdict.CORRECT
        assert ours is (compare(reference, found) is Verdict.CORRECT), (found, reference)
        if ours is not by_math_verify(found, reference):
            disagreements.append((name, found, reference, ours))
    share = 1 - len(disagreements) / len(pairs)
    print(f"\nagreement with Math-Verify: {share:.4%} of {len(pairs)} benign pairs")
    print(dict(Counter(name for name, *_ in disagreements)))
    for name, found, reference, ours in disagreements:
        print(f"  {name}: {found!r} for {reference!r}, {'accepted' if ours else 'refused'} here")
    assert share >= GOAL
    assert all(name in WRONG_THERE and ours for name, *_, ours in disagreements)


@needs_data
def test_agreement_on_a_sample():
    check_agreement(references()[::48])


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_agreement_on_every_reference():
    check_agreement(references())


@needs_data
def test_equivalents_are_accepted():
    """Against what they are by construction, not against another program."""
    answers = references()[::48]
    pairs = [pair for pair in benign_pairs(answers) if pair[0] in EQUIVALENTS]
    refused = [pair for pair in pairs if compare(pair[1], pair[2]) is not Verdict.CORRECT]
    print(f"\nequivalents accepted: {len(pairs) - len(refused)} of {len(pairs)}; {refused}")
    assert len(refused) <= 0.005 * len(pairs)
