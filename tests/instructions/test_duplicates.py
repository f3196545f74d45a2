from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.instructions.duplicates import DUPLICATE, NEAR, Duplicates, normalised

TEXT = "Write a poem about the sea in winter"


def test_normalised() -> None:
    assert (
        normalised("  Write, a\npoem -- ABOUT \uff46\uff49\uff53\uff48!  ")
        == "write a poem about fish"
    )
    assert normalised("Über 3 Äpfel") == "über 3 äpfel"


def test_exact_near_and_new() -> None:
    known = Duplicates().among([TEXT])
    assert known.add("write a poem, about the sea, in winter!") == DUPLICATE
    # Runs of three: 6 of the one, 7 of the other, 6 common: 6 / 7 = 0.857.
    assert known.add(f"{TEXT} time") == NEAR
    # A word in the middle is in three runs: 3 common of 9.
    assert known.add("Write a poem about the moon in winter") is None
    assert known.add("Write a poem about the moon in winter") == DUPLICATE


def test_the_share_is_the_bound_itself() -> None:
    # Runs of one word: {a, b, c, d, e} and {a, b, c, d, f}: 4 of 6.
    assert Duplicates(words=1, share=4 / 6).among(["a b c d e"]).add("a b c d f") == NEAR
    assert Duplicates(words=1, share=0.67).among(["a b c d e"]).add("a b c d f") is None


def test_short_texts_are_one_run() -> None:
    known = Duplicates().among(["Hello", ""])
    assert known.add("hello there") is None
    assert known.add("HELLO") == DUPLICATE and known.add("?!") == DUPLICATE


WORDS = st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)


@given(st.lists(WORDS, max_size=6), WORDS)
def test_a_text_that_is_there_is_never_new(texts: list[str], text: str) -> None:
    known = Duplicates().among([*texts, text])
    assert known.add(text.upper()) in (DUPLICATE, NEAR)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"words": 0}, r"duplicates\.words is 0"), ({"share": 0.0}, r"duplicates\.share is 0")],
)
def test_bad_values_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Duplicates(**fields)
