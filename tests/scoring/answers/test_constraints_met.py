from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.scoring.answers.constraints_met import (
    RULES,
    ConstraintsMet,
    read_answer,
    read_constraint,
    violated,
)
from rlstep.types import Verdict

ANSWER = "moon, sea, moon, hill"
"""4 words, 4 + 3 + 4 + 4 = 15 letters."""


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        ("exactly 4 words", True),
        ("exactly 3 words", False),
        ("at most 15 letters", True),
        ("at most 14 letters", False),
        ("with hill", True),
        ("with hil", False),  # a part of a word is none
        ("without hil", True),
        ("without hill", False),
        ("sea before hill", True),
        ("sea before moon", False),  # of moon the first counts
        ("moon before sea", True),
        ("moon before moon", False),
        ("moon before river", False),  # both are wanted
        ("starts with moon", True),
        ("starts with sea", False),
        ("ends with hill", True),
        ("ends with moon", False),
        ("no word twice", False),
        ("separated by commas", True),
        ("one word a line", False),
    ],
)
def test_every_rule_by_hand(constraint: str, met: bool) -> None:
    assert violated([constraint], ANSWER) == ([] if met else [constraint])


@pytest.mark.parametrize(
    "text", ["", " moon", "moon ", "moon,sea", "moon  sea", "Moon", "moon.", "moon\n", "moon, "]
)
def test_what_is_no_answer_misses_all(text: str) -> None:
    assert read_answer(text) is None
    assert violated(["without sea", "exactly 1 words"], text) == ["without sea", "exactly 1 words"]


def test_formats_of_mixed_separators_and_of_a_single_word() -> None:
    assert violated(["separated by commas", "one word a line"], "moon, sea\nhill") == [
        *("separated by commas", "one word a line")
    ]
    assert violated(["separated by commas", "one word a line"], "moon") == []


@pytest.mark.parametrize("text", ["exactly four words", "with", "with  moon", "With moon", ""])
def test_a_constraint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"constraint '.*' reads like none of exactly "):
        read_constraint(text)


ROW = {"constraints": ["exactly 4 words", "without sea", "no word twice", "with hill"]}


def test_the_verdict_is_strict_and_the_grade_the_share() -> None:
    found = ConstraintsMet().verify(ANSWER, "", ROW)
    # Of four, "without sea" and "no word twice" are missed.
    assert (found.value, found.verdict, found.grade) == (0.0, Verdict.WRONG, 0.5)
    right = ConstraintsMet().verify("moon sun lamp hill", "", ROW)
    assert (right.value, right.verdict, right.grade) == (1.0, Verdict.CORRECT, 1.0)
    assert right.extracted == "moon sun lamp hill"


@pytest.mark.parametrize(("text", "reason"), [("moon!", "stop"), ("moon sun lamp hill", "length")])
def test_unreadable_or_cut_is_unparsable(text: str, reason: str) -> None:
    found = ConstraintsMet().verify(text, "", ROW, reason)
    assert (found.value, found.verdict, found.grade) == (0.0, Verdict.UNPARSABLE, 0.0)


@pytest.mark.parametrize("row", [{}, {"constraints": []}])
def test_nothing_to_check_is_no_score(row: dict) -> None:
    with pytest.raises(ValueError, match="row has no 'constraints'"):
        ConstraintsMet().verify(ANSWER, "", row)


WORD = st.sampled_from(["moon", "sea", "sun"])


@given(st.lists(WORD, min_size=1, max_size=5), st.sampled_from([" ", ", ", "\n"]), WORD, WORD)
def test_opposites_exclude_each_other(words: list[str], between: str, a: str, b: str) -> None:
    answer = between.join(words)

    def met(*constraints: str) -> bool:
        return not violated(constraints, answer)

    assert met(f"with {a}") != met(f"without {a}")
    assert not met(f"{a} before {b}", f"{b} before {a}")
    assert met(f"exactly {len(words)} words") and not met(f"exactly {len(words) + 1} words")
    if met(f"{a} before {b}"):
        assert met(f"with {a}", f"with {b}")
    if len(words) > 1:
        assert not met("separated by commas", "one word a line")


def test_every_rule_is_tried_above() -> None:
    assert len(RULES) == 10
