from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlstep.measuring.edit_distance import edit_distance

texts = st.text("ab", max_size=6)


def test_worked_by_hand() -> None:
    assert edit_distance("kitten", "sitting") == 3  # k to s, e to i, and a g
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    assert edit_distance("", "abc") == 3 == edit_distance("abc", "")


@given(texts, texts, texts)
def test_it_is_a_distance(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
