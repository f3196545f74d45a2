"""Statements and syllogisms, held against the classical table and against all set models."""

from __future__ import annotations

from itertools import product

import pytest

from rlstep.tasks.syllogism import (
    Statement,
    about,
    blend,
    conclusions,
    follows,
    premises_for,
    read,
    way,
)
from tests.tasks.venn import entails, entails_in_every_model

# Major premise, minor premise, conclusion; in figure 1 M-P S-M, 2 P-M S-M, 3 M-P M-S, 4 P-M M-S.
MOODS = {
    1: "AAA EAE AII EIO",  # Barbara, Celarent, Darii, Ferio
    2: "EAE AEE EIO AOO",  # Cesare, Camestres, Festino, Baroco
    3: "AII IAI EIO OAO",  # Datisi, Disamis, Ferison, Bocardo
    4: "AEE IAI EIO",  # Calemes, Dimatis, Fresison
}
MAJOR = {1: "mp", 2: "pm", 3: "mp", 4: "pm"}
MINOR = {1: "sm", 2: "sm", 3: "ms", 4: "ms"}
WORDS = {
    "A": "All {} are {}",
    "E": "No {} are {}",
    "I": "Some {} are {}",
    "O": "Some {} are not {}",
}


def statement(text: str) -> Statement:
    found = read(text)
    assert found is not None
    return found


def test_the_fifteen_moods_are_all_that_is_valid_in_any_model() -> None:
    valid = 0
    for figure, forms in product(MOODS, product("AEIO", repeat=3)):
        major = WORDS[forms[0]].format(*MAJOR[figure])
        minor = WORDS[forms[1]].format(*MINOR[figure])
        conclusion = WORDS[forms[2]].format("s", "p")
        expected = "".join(forms) in MOODS[figure].split()
        assert entails_in_every_model([major, minor], conclusion) == expected, (figure, forms)
        found = [statement(text) for text in (major, minor, conclusion)]
        assert follows(found[0], found[1], found[2]) == expected, (figure, forms)
        assert follows(found[1], found[0], found[2]) == expected, "the premises' order matters"
        valid += expected
    assert valid == 15


def test_both_ways_of_asking_all_models_agree() -> None:
    for first, second, third in product(about("s", "m"), about("m", "p"), about("s", "p")):
        texts = [str(first), str(second)]
        assert entails(texts, str(third)) == entails_in_every_model(texts, str(third))


def test_conclusions_are_all_that_follows() -> None:
    for first, second in product(about("s", "m"), about("m", "p")):
        expected = {text for text in map(str, about("s", "p"))
                    if entails_in_every_model([str(first), str(second)], text)}  # fmt: skip
        assert set(map(str, conclusions(first, second))) == expected
        if expected:  # what it sounds like is right in form, if not in order
            sound = blend(first, second, "s", "p")
            assert expected & {str(sound), str(sound.turned)}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("All a are b", "All a are b"),
        ("All a are b", "No b are a"),  # two terms in common
        ("All a are b", "All c are d"),  # none
    ],
)
def test_premises_that_do_not_share_exactly_one_term_make_no_syllogism(first, second) -> None:
    one, two = statement(first), statement(second)
    assert conclusions(one, two) == []
    assert not any(follows(one, two, s) for s in (*about("a", "b"), *about("a", "d")))


def test_premises_for_a_conclusion_are_all_there_are() -> None:
    for conclusion in about("s", "p"):
        expected = {
            (str(one), str(two))
            for one, two in product(about("s", "m"), about("m", "p"))
            if entails_in_every_model([str(one), str(two)], str(conclusion))
        }
        if conclusion.subject == "p":
            expected = {(two, one) for one, two in expected}
        assert {(str(a), str(b)) for a, b in premises_for(conclusion, "m")} == expected
    # All s are p: Barbara alone, and its premises in one way only.
    assert [tuple(map(str, pair)) for pair in premises_for(statement("All s are p"), "m")] == [
        ("All s are m", "All m are p")
    ]


def test_statements_are_read_as_they_are_written() -> None:
    for one in about("bako", "demu"):
        assert read(str(one)) == one
        assert entails([str(one)], str(one.meaning)) and entails([str(one.meaning)], str(one))
        assert entails([str(one)], str(one.turned)) != one.turnable
        assert one.contradictory.contradictory == one
        assert not entails([str(one)], str(one.contradictory))
    assert len({one.meaning for one in about("a", "b")}) == 6  # A and O in two orders, E and I


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "all a are b",
        "All a are b ",
        "All a are not b",
        "No a are not b",
        "All a are a",
        "Some a b",
        "Some a are b\n",
        "All a are b, All b are c",
    ],
)
def test_what_is_no_statement_is_none(text: str) -> None:
    assert read(text) is None


def test_the_way_is_the_shortest() -> None:
    chain = [statement(f"All {a} are {b}") for a, b in ("ab", "bc", "cd", "xc")]
    assert way(chain, "a", "d") == chain[:3]
    assert way(chain[::-1], "d", "a") == chain[2::-1]
    short = statement("No d are b")
    assert way([*chain, short], "a", "d") == [chain[0], short]
    assert way(chain[:1] + chain[2:], "a", "d") is None
    assert way(chain, "a", "a") == []
